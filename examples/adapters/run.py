"""LoRA adapters of a small transformer: ten clients train and send the adapters alone, three of them are hostile."""

import argparse
import logging
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from sklearn.datasets import load_digits
from torch import nn

from fedlaw_flwr import FedLAW
from fedlaw_flwr.engines.in_process import InProcessGrid

CLIENTS, HOSTILE = 10, (1, 4, 8)
PRETRAINED = 5
"""The base model knows the digits below this; the adapters learn the rest."""


class Reader(nn.Module):
    """A transformer that reads a digit's image as a sentence of eight rows."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.query, self.key, self.value, self.out = (nn.Linear(32, 32) for _ in range(4))
        self.wide, self.narrow = nn.Linear(32, 64), nn.Linear(64, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        h = self.embed(x)
        h = h + self.out(F.scaled_dot_product_attention(self.query(h), self.key(h), self.value(h)))
        h = h + self.narrow(F.relu(self.wide(h)))
        return self.head(h.mean(1))


def train(model, images, labels, epochs):
    """Adam on what is trainable; returns the mean loss over all batches."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.005)
    total = 0.0
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(32):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
    return total / (epochs * len(labels))


def adapted():
    """The base model, the same everywhere, with fresh adapters; the head is trained in full."""
    model = Reader()
    model.load_state_dict(base())
    config = LoraConfig(r=4, target_modules=["query", "value", "wide", "narrow"], modules_to_save=["head"])
    return get_peft_model(model, config)


@lru_cache(maxsize=1)
def base():
    """The base model, trained on the lower digits."""
    torch.manual_seed(0)
    images, labels = digits()
    low = labels < PRETRAINED
    model = Reader()
    train(model, images[low], labels[low], 8)
    return model.state_dict()


@lru_cache(maxsize=1)
def digits():
    """Images as eight rows of eight pixels, and their digits."""
    found = load_digits()
    return torch.tensor(found.images / 16, dtype=torch.float32), torch.tensor(found.target)


app = ClientApp()


@app.train()
def train_adapters(message: Message, context: Context) -> Message:
    """Trains the adapters on the client's own images and replies them, and nothing of the base model."""
    partition = context.node_config["partition-id"]
    images, labels = (part[partition :: CLIENTS + 1] for part in digits())
    model = adapted()
    set_peft_model_state_dict(model, message.content["arrays"].to_torch_state_dict())
    torch.manual_seed(message.content["config"]["server-round"])
    loss = train(model, images, labels, 2)
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(labels)})
    content = RecordDict({"arrays": ArrayRecord(get_peft_model_state_dict(model)), "metrics": metrics})
    return Message(content, reply_to=message)


def opposite(message, context, call_next):
    """A Flower mod of a hostile client: replies the opposite of what it has learned."""
    reply = call_next(message, context)
    received = message.content["arrays"].to_torch_state_dict()
    trained = reply.content["arrays"].to_torch_state_dict()
    reply.content["arrays"] = ArrayRecord({key: 2 * received[key] - trained[key] for key in trained})
    return reply


def main(arguments: Sequence[str] | None = None):
    """Runs the federation; returns the accuracy before and after, the verdict, and how many numbers a client sends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args(arguments)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    hostile = ClientApp(mods=[opposite])
    hostile.train()(train_adapters)
    model = adapted()
    initial = ArrayRecord(get_peft_model_state_dict(model))
    grid = InProcessGrid(lambda partition: hostile if partition in HOSTILE else app, CLIENTS)
    result = FedLAW(max_byzantine=len(HOSTILE)).start(grid, initial, num_rounds=chosen.rounds)
    images, labels = (part[CLIENTS :: CLIENTS + 1] for part in digits())  # the share that no client has
    accuracies = []
    for arrays in (initial, result.arrays):
        set_peft_model_state_dict(model, arrays.to_torch_state_dict())
        with torch.no_grad():
            accuracies.append((model(images).argmax(1) == labels).float().mean().item())
    sent = sum(array.numpy().size for array in initial.values())
    print(f"{sent} of {sum(p.numel() for p in model.parameters())} numbers are sent")
    print(f"accuracy before {accuracies[0]:.1%}, after {chosen.rounds} rounds {accuracies[1]:.1%}")
    print(result.verdict)
    return accuracies, result.verdict, sent


if __name__ == "__main__":
    main()
