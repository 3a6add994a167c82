"""One strategy line for clients in PyTorch, Lightning, scikit-learn or JAX: ten of them, three hostile."""

import argparse
import importlib
import logging
from collections.abc import Sequence

from flwr.app import Array, ArrayRecord, ConfigRecord
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from shares import CLIENTS

from fedlaw_flwr import FedLAW
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.engines.in_process import InProcessGrid

FRAMEWORKS = ("pytorch", "lightning", "sklearn", "jax", "xgboost")
HOSTILE = (1, 4, 8)


def opposite(message, context, call_next):
    """A Flower mod of a hostile client: replies the opposite of what it has learned, three times as far."""
    reply = call_next(message, context)
    received, trained = message.content["arrays"], reply.content["arrays"]
    away = {name: received[name].numpy() - 3 * (trained[name].numpy() - received[name].numpy()) for name in trained}
    reply.content["arrays"] = ArrayRecord({name: Array(value) for name, value in away.items()})
    return reply


def train(framework, strategy, rounds: int, hostile: Sequence[int] = HOSTILE):
    """Runs the federation with one framework's clients and one strategy; returns its result."""
    liar = ClientApp(mods=[opposite])

    @liar.train()
    def lie(message, context):
        return framework.app(message, context)

    grid = InProcessGrid(lambda partition: liar if partition in hostile else framework.app, CLIENTS)
    return strategy.start(grid, framework.initial(), num_rounds=rounds, train_config=ConfigRecord())


def main(arguments: Sequence[str] | None = None):
    """Prints and returns the accuracy of FedAvg and of FedLAW, and FedLAW's verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework", choices=FRAMEWORKS)
    parser.add_argument("--rounds", type=int, default=10)
    chosen = parser.parse_args(arguments)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    framework = importlib.import_module(f"with_{chosen.framework}")
    try:
        protected = train(framework, FedLAW(max_byzantine=3), chosen.rounds)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
    averaged = train(framework, FedAvg(fraction_evaluate=0.0), chosen.rounds)
    accuracies = framework.accuracy(averaged.arrays), framework.accuracy(protected.arrays)
    print(f"{chosen.framework}: accuracy after {chosen.rounds} rounds, three of ten clients hostile")
    for name, value in zip(("FedAvg", "FedLAW"), accuracies, strict=True):
        print(f"  {name}  {value:.1%}")
    print(protected.verdict)
    return accuracies, protected.verdict


if __name__ == "__main__":
    main()
