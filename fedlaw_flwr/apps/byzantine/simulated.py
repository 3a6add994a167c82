"""The ClientApp of a simulation: the honest silo, with the attack mod around it for the silos that attack."""

from flwr.clientapp import ClientApp

from fedlaw_flwr.apps.byzantine.mod import attack_mod
from fedlaw_flwr.apps.honest import evaluate_received, train

app = ClientApp(mods=[attack_mod])
app.train()(train)
app.evaluate()(evaluate_received)
