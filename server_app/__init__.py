"""The Flower app's ServerApp entry point; the code is in `fedlaw_flwr.apps`."""
