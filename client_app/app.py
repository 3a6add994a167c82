"""The ClientApp of `flwr run`: simulated silos, honest or Byzantine as the run configuration says."""

from fedlaw_flwr.apps.byzantine import simulated

app = simulated.app
