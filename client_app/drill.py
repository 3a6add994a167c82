"""The ClientApp of a silo that attacks on purpose: an operator's drill, named in that silo's own configuration."""

from flwr.clientapp import ClientApp

from client_app import honest
from client_app.byzantine import attack_mod
from client_app.deployed import own_settings, prepare

__all__ = ["app", "prepare"]

app = ClientApp(mods=[own_settings, attack_mod])
app.train()(honest.train)
app.evaluate()(honest.evaluate_received)
