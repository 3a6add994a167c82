"""The ClientApp of a silo that attacks on purpose: an operator's drill, named in that silo's own configuration."""

from flwr.clientapp import ClientApp

from fedlaw_flwr.apps import honest
from fedlaw_flwr.apps.byzantine.mod import attack_mod
from fedlaw_flwr.apps.deployed import own_settings, prepare

__all__ = ["app", "prepare"]

app = ClientApp(mods=[own_settings, attack_mod])
app.train()(honest.train)
app.evaluate()(honest.evaluate_received)
