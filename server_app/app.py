"""The ServerApp of `flwr run`: one run with the settings of the run configuration."""

from fedlaw_flwr.apps import server

app = server.app
