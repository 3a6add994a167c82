"""The same Flower app with FedAvg and with FedLAW, in this process: nobody hostile, and one client of ten hostile."""

import argparse
import logging
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

import torch
from digits_app import after, before, client_app
from digits_app.task import Net, load_test_data, test
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable
from flwr.serverapp import ServerApp

from fedlaw_flwr.engines.in_process import InProcessGrid

CLIENTS, HOSTILE = 10, 7
MILLION = 1_000_000


def opposite(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """A Flower mod of a hostile client: replies the opposite of what it has learned."""
    reply = call_next(message, context)
    received = message.content["arrays"].to_torch_state_dict()
    trained = reply.content["arrays"].to_torch_state_dict()
    reply.content["arrays"] = ArrayRecord({key: 2 * received[key] - trained[key] for key in trained})
    return reply


def boast(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """A Flower mod of a hostile client: claims a million records."""
    reply = call_next(message, context)
    reply.content["metrics"]["num-examples"] = MILLION
    return reply


ATTACKS = {
    "nobody is hostile": [],
    f"client {HOSTILE} replies the opposite": [opposite],
    "... and claims a million records": [opposite, boast],
}
"""What client HOSTILE does around the app's own ClientApp."""


def accuracy(server: ServerApp, mods: list, rounds: int) -> float:
    """Runs the app over ten clients; returns the final model's accuracy on the server's test images."""
    config = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    hostile = ClientApp(mods=mods)
    hostile.train()(client_app.train)
    with tempfile.TemporaryDirectory() as folder:
        config |= {"num-server-rounds": rounds, "final-model": str(Path(folder) / "final_model.pt")}
        grid = InProcessGrid(lambda client: hostile if client == HOSTILE else client_app.app, CLIENTS, config)
        server(grid, Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config))
        model = Net()
        model.load_state_dict(torch.load(config["final-model"], weights_only=True))
    return test(model, *load_test_data())[1]


def main(arguments: Sequence[str] | None = None) -> dict[str, tuple[float, float]]:
    """The command; returns what it has printed: accuracy before and after, by attack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    chosen = parser.parse_args(arguments)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    print(f"accuracy after {chosen.rounds} rounds{'before (FedAvg)':>30}{'after (FedLAW)':>18}")
    found = {}
    for attack, mods in ATTACKS.items():
        found[attack] = accuracy(before.app, mods, chosen.rounds), accuracy(after.app, mods, chosen.rounds)
        print(f"{attack:34}{found[attack][0]:18.1%}{found[attack][1]:18.1%}")
    return found


if __name__ == "__main__":
    main()
