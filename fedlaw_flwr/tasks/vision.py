"""Data sets that torchvision reads: MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100. Imported only when one is loaded."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from fedlaw_flwr.partition import Partition
from fedlaw_flwr.tasks.models import cnn, mlp
from fedlaw_flwr.tasks.pooled import Pool, PooledTask


def mnist(partition: Partition, seed: int, data_dir: str = "", download: bool = False) -> PooledTask:
    """70,000 images of 28x28 pixels, the ten digits; the paper's 3-layer perceptron, 784-200-100-10."""
    net = partial(mlp, 784, 200, 100, 10)
    return _vision("mnist", "MNIST", partition, seed, data_dir, download, net, (1, 28, 28))


def fashion_mnist(partition: Partition, seed: int, data_dir: str = "", download: bool = False) -> PooledTask:
    """70,000 images of 28x28 pixels, ten kinds of clothes; the same perceptron."""
    net = partial(mlp, 784, 200, 100, 10)
    return _vision("fashion_mnist", "FashionMNIST", partition, seed, data_dir, download, net, (1, 28, 28))


def cifar10(partition: Partition, seed: int, data_dir: str = "", download: bool = False) -> PooledTask:
    """60,000 colour images of 32x32 pixels, ten kinds; the paper's 4-layer CNN with group norm."""
    return _vision("cifar10", "CIFAR10", partition, seed, data_dir, download, partial(cnn, 10), (3, 32, 32))


def cifar100(partition: Partition, seed: int, data_dir: str = "", download: bool = False) -> PooledTask:
    """60,000 colour images of 32x32 pixels, a hundred kinds; the same CNN."""
    return _vision("cifar100", "CIFAR100", partition, seed, data_dir, download, partial(cnn, 100), (3, 32, 32))


def _vision(
    name: str,
    dataset: str,
    partition: Partition,
    seed: int,
    data_dir: str,
    download: bool,
    build: Callable[[], nn.Module],
    shape: tuple[int, ...],
) -> PooledTask:
    def load() -> Pool:
        pools = [_read(name, dataset, data_dir, download, train) for train in (True, False)]
        return np.concatenate([p[0] for p in pools]), np.concatenate([p[1] for p in pools])

    return PooledTask(
        name,
        partition,
        seed,
        load=load,
        build=build,
        num_labels=100 if name == "cifar100" else 10,
        input_shape=shape,
        is_image=True,
    )


def _read(name: str, dataset: str, data_dir: str, download: bool, train: bool) -> Pool:
    """One of the data set's two files as inputs (m, channels, side, side) or (m, side, side), uint8, and labels."""
    if not data_dir:
        raise FileNotFoundError(f"task={name!r} needs data-dir, the folder torchvision keeps {dataset} in")
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:
        need = f"task={name!r} needs a torchvision that fits this torch ({error})"
        raise ValueError(f"{need}: pip install 'fedlaw-flwr[vision]'") from error
    root = Path(data_dir).expanduser()
    try:
        found = getattr(datasets, dataset)(root=str(root), train=train, download=download)
    except RuntimeError as error:
        raise FileNotFoundError(
            f"data-dir={str(root)!r} holds no {dataset}; name the folder torchvision put it in, or set download=true"
        ) from error
    inputs = np.asarray(found.data)
    if inputs.ndim == 4:
        inputs = inputs.transpose(0, 3, 1, 2)
    return inputs, np.asarray(found.targets)
