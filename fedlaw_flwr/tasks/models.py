"""The nets: multi-layer perceptrons, and the four-layer CNN with group norm of the paper's CIFAR runs."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The model that build makes on the CPU from this seed; torch's global random state is put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also seed every GPU, which fork_rng does not put back.
        torch.default_generator.manual_seed(seed)
        return build()


def mlp(*widths: int) -> nn.Module:
    """Flattened inputs through linear layers, ReLU between them.

    The paper gives its "3-layer fully connected net" for MNIST no widths; ours is mlp(784, 200, 100, 10), with
    178,110 parameters.

    Args:
        *widths: The numbers of inputs, of each hidden layer's units and of outputs, in this order.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for i, (wide, next_wide) in enumerate(pairwise(widths)):
        layers += [nn.ReLU()] if i else []
        layers.append(nn.Linear(wide, next_wide))
    return nn.Sequential(*layers)


def cnn(num_labels: int, channels: int = 3, side: int = 32, widths: tuple[int, ...] = (32, 64, 64)) -> nn.Module:
    """Three 3x3 convolutions with group norm (8 groups), ReLU and 2x2 pooling, then a linear layer.

    The paper says "4-layer CNN with group norm" and no more; the widths are ours.

    Args:
        num_labels: The number of outputs.
        channels: Of the images. Default: 3.
        side: Of the images, in pixels. Default: 32.
        widths: The channels that each convolution gives, multiples of 8. Default: (32, 64, 64).
    """
    layers: list[nn.Module] = []
    wide = channels
    for width in widths:
        layers += [nn.Conv2d(wide, width, 3, padding=1), nn.GroupNorm(8, width), nn.ReLU(), nn.MaxPool2d(2)]
        wide = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(wide * (side // 8) ** 2, num_labels))
