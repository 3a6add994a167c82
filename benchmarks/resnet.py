"""What a ResNet-18 on folders of images costs the server: `python -m benchmarks.resnet`.

Ten clients, three of them hostile, each with a folder of PNG files for each class: scikit-learn's digits, written out.
A client trains torchvision's ResNet-18 from scratch by SGD with momentum, two batches a round: model and messages have
their full size, the training has not. It prints the server's peak memory, its seconds, and who has no weight.
"""

import argparse
import logging
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import ToTensor

from fedlaw_flwr import FedLAW
from fedlaw_flwr.engines.in_process import InProcessGrid
from fedlaw_flwr.events.types import Event, RoundEnded

CLIENTS, HOSTILE, BATCH, BATCHES = 10, (1, 4, 8), 16, 2


def write_folders(place: Path) -> None:
    """place/CLIENT/DIGIT/N.png, 32 pixels a side."""
    found = load_digits()
    for number, (image, digit) in enumerate(zip(found.images, found.target, strict=True)):
        folder = place / str(number % CLIENTS) / str(digit)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = Image.fromarray((image * 255 / 16).astype(np.uint8))
        pixels.resize((32, 32)).convert("RGB").save(folder / f"{number}.png")


def client(place: Path, spent: list[float]) -> ClientApp:
    """The ClientApp of all clients; it adds the seconds that it takes to `spent`."""
    app = ClientApp()
    folders = [ImageFolder(str(place / str(partition)), ToTensor()) for partition in range(CLIENTS)]

    @app.train()
    def train(message: Message, context: Context) -> Message:
        began = time.perf_counter()
        partition = int(context.node_config["partition-id"])
        received = message.content["arrays"]
        assert isinstance(received, ArrayRecord)
        model = resnet18(num_classes=10)
        model.load_state_dict(received.to_torch_state_dict())
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        rows = np.random.default_rng(partition).permutation(len(folders[partition]))
        losses = []
        for batch in rows[: BATCH * BATCHES].reshape(BATCHES, BATCH):
            images, digits = zip(*(folders[partition][int(row)] for row in batch), strict=True)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(torch.stack(images)), torch.tensor(digits))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        reply = ArrayRecord(model.state_dict())
        if partition in HOSTILE:
            reply = ArrayRecord({key: opposite(received[key], reply[key]) for key in reply})
        content = RecordDict({"arrays": reply, "metrics": MetricRecord({"train_loss": float(np.mean(losses))})})
        answer = Message(content, reply_to=message)
        spent.append(time.perf_counter() - began)
        return answer

    return app


def opposite(received: Array, trained: Array) -> Array:
    """What a hostile client replies in place of what it has learned; counters stay as they are."""
    before, after = received.numpy(), trained.numpy()
    return Array(before - 3 * (after - before)) if after.dtype == np.float32 else trained


def main() -> None:
    """Runs it and prints a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    logging.disable(logging.CRITICAL)
    torch.manual_seed(0)
    model = resnet18(num_classes=10)
    size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    spent, seen = list[float](), list[Event]()
    with tempfile.TemporaryDirectory() as name:
        write_folders(Path(name))
        grid = InProcessGrid(client(Path(name), spent), CLIENTS)
        settings: dict[str, Any] = {"max_byzantine": len(HOSTILE), "on_event": seen.append}
        tracemalloc.start()  # what torch holds, which is the clients', is not counted
        FedLAW(**settings).start(grid, ArrayRecord(model.state_dict()), num_rounds=rounds)
        peak = tracemalloc.get_traced_memory()[1]
    ended = [event for event in seen if isinstance(event, RoundEnded)]
    print(f"a model: {sum(p.numel() for p in model.parameters()):,} parameters, {size / 1e6:.1f} MB")
    print(f"server's peak memory: {peak / 1e6:.0f} MB, {peak / size:.1f} models")
    print(f"{len(spent)} answers of clients: {sum(spent) / len(spent):.2f} s each")
    print(f"a round: {sum(e.seconds for e in ended) / rounds:.1f} s, of it the clients {sum(spent) / rounds:.1f} s")
    print("no weight: " + ", ".join(silo for silo, weight in ended[-1].weight_of.items() if weight == 0))


if __name__ == "__main__":
    main()
