"""A ClientApp in PyTorch, trained by SGD with momentum."""

import torch
import torch.nn.functional as F
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from shares import CLIENTS, batches, share
from torch import nn

app = ClientApp()


def network():
    """64 pixels through one hidden layer to ten digits."""
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


@app.train()
def train(message: Message, context: Context) -> Message:
    """Trains for three epochs."""
    images, digits = map(torch.from_numpy, share(context.node_config["partition-id"]))
    model = network()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    losses = []
    for rows in batches(len(digits), epochs=3, seed=message.content["config"]["server-round"]):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images[rows]), digits[rows])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    metrics = MetricRecord({"train_loss": sum(losses) / len(losses), "num-examples": len(digits)})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)


def initial() -> ArrayRecord:
    """The model to begin with."""
    torch.manual_seed(0)
    return ArrayRecord(network().state_dict())


def accuracy(arrays: ArrayRecord) -> float:
    """On the images that no client has."""
    images, digits = map(torch.from_numpy, share(CLIENTS))
    model = network()
    model.load_state_dict(arrays.to_torch_state_dict())
    with torch.no_grad():
        return (model(images).argmax(1) == digits).float().mean().item()
