"""What a ResNet-18 on folders of images costs the server: `python -m benchmarks.resnet`.

Each client has a folder of image files for each class: scikit-learn's digits, written out as PNG, or with `--images
FOLDER` those of a folder that has a folder for each of ten classes. A fifth of the clients are hostile. A client trains
torchvision's ResNet-18 from scratch by SGD with momentum, two batches a round: model and messages have their full size,
the training has not. It prints the server's peak memory, its seconds, and who has no weight. Seconds are those of the
processor, which do not depend on what else the machine does.
"""

import argparse
import logging
import shutil
import tempfile
import time
import tracemalloc
from pathlib import Path

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

BATCH, BATCHES = 16, 2
SHARE = 10
"""Images of each class that a client gets from a folder of the user's."""


def write_folders(place: Path, clients: int) -> None:
    """place/CLIENT/DIGIT/N.png, 32 pixels a side."""
    found = load_digits()
    for number, (image, digit) in enumerate(zip(found.images, found.target, strict=True)):
        folder = place / str(number % clients) / str(digit)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = Image.fromarray((image * 255 / 16).astype(np.uint8))
        pixels.resize((32, 32)).convert("RGB").save(folder / f"{number}.png")


def deal(images: Path, place: Path, clients: int) -> None:
    """place/CLIENT/CLASS/NAME: the first images of each class, ten to a client."""
    for kind in sorted(path for path in images.iterdir() if path.is_dir()):
        for number, path in enumerate(sorted(kind.iterdir())[: SHARE * clients]):
            folder = place / str(number % clients) / kind.name
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder)


def client(place: Path, clients: int, hostile: int, spent: list[float]) -> ClientApp:
    """The ClientApp of all clients, the first of them hostile; it adds the seconds that it takes to `spent`."""
    app = ClientApp()
    folders = [ImageFolder(str(place / str(partition)), ToTensor()) for partition in range(clients)]

    @app.train()
    def train(message: Message, context: Context) -> Message:
        began = time.process_time()
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
        if partition < hostile:
            reply = ArrayRecord({key: opposite(received[key], reply[key]) for key in reply})
        content = RecordDict({"arrays": reply, "metrics": MetricRecord({"train_loss": float(np.mean(losses))})})
        answer = Message(content, reply_to=message)
        spent.append(time.process_time() - began)
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
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--images", type=Path, help="a folder with a folder of images for each of ten classes")
    chosen = parser.parse_args()
    rounds, clients, hostile = chosen.rounds, chosen.clients, chosen.clients // 5
    logging.disable(logging.CRITICAL)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = resnet18(num_classes=10)
    size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    spent, seen = list[float](), list[Event]()
    with tempfile.TemporaryDirectory() as name:
        if chosen.images is None:
            write_folders(Path(name), clients)
        else:
            deal(chosen.images, Path(name), clients)
        grid = InProcessGrid(client(Path(name), clients, hostile, spent), clients)
        tracemalloc.start()  # what torch holds, which is the clients', is not counted
        began = time.process_time()
        strategy = FedLAW(max_byzantine=hostile, on_event=seen.append)
        strategy.start(grid, ArrayRecord(model.state_dict()), num_rounds=rounds)
        total = time.process_time() - began
        peak = tracemalloc.get_traced_memory()[1]
    ended = [event for event in seen if isinstance(event, RoundEnded)]
    print(f"{clients} clients, {hostile} hostile, {rounds} rounds")
    print(f"a model: {sum(p.numel() for p in model.parameters()):,} parameters, {size / 1e6:.1f} MB")
    print(f"server's peak memory: {peak / 1e6:.0f} MB, {peak / size:.1f} models")
    print(f"{len(spent)} answers of clients: {sum(spent) / len(spent):.2f} s each")
    print(f"a round: {total / rounds:.1f} s, of it the server {(total - sum(spent)) / rounds:.1f} s")
    print("no weight: " + ", ".join(silo for silo, weight in ended[-1].weight_of.items() if weight == 0))


if __name__ == "__main__":
    main()
