"""The Flower app's ClientApp entry point; the code is in `fedlaw_flwr.apps`."""
