"""What is learned: a small net, the digits of each client and of the server, training and testing."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class Net(nn.Module):
    """64 pixels through one hidden layer to ten digits."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))


def load_data(partition_id, num_partitions):
    """The training images of one client, pixels in [0, 1], and their digits."""
    images, labels = _digits()
    mine = torch.arange(len(labels)) % 5 != 0
    return images[mine][partition_id::num_partitions], labels[mine][partition_id::num_partitions]


def load_test_data():
    """The server's: every fifth image."""
    images, labels = _digits()
    return images[::5], labels[::5]


def train(net, images, labels, epochs, lr):
    """Trains the net by plain SGD; returns the mean loss over all epochs."""
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    net.train()
    total = 0.0
    for _ in range(epochs):
        for batch in torch.randperm(len(labels)).split(16):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
    return total / (epochs * len(labels))


def test(net, images, labels):
    """The net's mean loss and accuracy."""
    net.eval()
    with torch.no_grad():
        outputs = net(images)
    return F.cross_entropy(outputs, labels).item(), (outputs.argmax(1) == labels).float().mean().item()


@lru_cache(maxsize=1)
def _digits():
    digits = load_digits()
    return torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
