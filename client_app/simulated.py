"""The ClientApp of a simulation: the honest silo, with the attack mod around it for the silos that attack."""

from flwr.clientapp import ClientApp

from client_app.byzantine import attack_mod
from client_app.honest import evaluate_received, train

app = ClientApp(mods=[attack_mod])
app.train()(train)
app.evaluate()(evaluate_received)
