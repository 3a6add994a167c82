"""Starts a run on this machine: through `flwr run`, or over a grid inside this process."""
