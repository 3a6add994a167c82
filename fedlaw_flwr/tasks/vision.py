"""Data sets that torchvision reads: MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100. Imported only when one is loaded."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from fedlaw_flwr.core.errors import InputError, NotThere
from fedlaw_flwr.core.partition import Partition
from fedlaw_flwr.tasks.choice import Choice
from fedlaw_flwr.tasks.models import cnn, mlp
from fedlaw_flwr.tasks.pooled import Pool, PooledTask

# Where torchvision keeps each, inside data-dir.
_FOLDERS = {
    "MNIST": "MNIST/raw",
    "FashionMNIST": "FashionMNIST/raw",
    "CIFAR10": "cifar-10-batches-py",
    "CIFAR100": "cifar-100-python",
}


def mnist(partition: Partition, seed: int, choice: Choice) -> PooledTask:
    """70,000 images of 28x28 pixels, the ten digits; the paper's 3-layer perceptron, 784-200-100-10."""
    return _grey("mnist", "MNIST", partition, seed, choice)


def fashion_mnist(partition: Partition, seed: int, choice: Choice) -> PooledTask:
    """70,000 images of 28x28 pixels, ten kinds of clothes; the same perceptron."""
    return _grey("fashion_mnist", "FashionMNIST", partition, seed, choice)


def cifar10(partition: Partition, seed: int, choice: Choice) -> PooledTask:
    """60,000 colour images of 32x32 pixels, ten kinds; the paper's 4-layer CNN with group norm."""
    return _colour("cifar10", "CIFAR10", 10, partition, seed, choice)


def cifar100(partition: Partition, seed: int, choice: Choice) -> PooledTask:
    """60,000 colour images of 32x32 pixels, a hundred kinds; the same CNN."""
    return _colour("cifar100", "CIFAR100", 100, partition, seed, choice)


def _grey(name: str, dataset: str, partition: Partition, seed: int, choice: Choice) -> PooledTask:
    net = partial(mlp, 784, *(choice.widths or (200, 100)), 10)
    return _vision(name, dataset, 10, (1, 28, 28), net, partition, seed, choice)


def _colour(name: str, dataset: str, labels: int, partition: Partition, seed: int, choice: Choice) -> PooledTask:
    net = partial(cnn, labels, widths=choice.widths) if choice.widths else partial(cnn, labels)
    return _vision(name, dataset, labels, (3, 32, 32), net, partition, seed, choice)


def _vision(
    name: str,
    dataset: str,
    labels: int,
    shape: tuple[int, ...],
    net: Callable[[], nn.Module],
    partition: Partition,
    seed: int,
    choice: Choice,
) -> PooledTask:
    def load() -> Pool:
        pools = [_read(name, dataset, choice.data_dir, choice.download, train) for train in (True, False)]
        return np.concatenate([p[0] for p in pools]), np.concatenate([p[1] for p in pools])

    return PooledTask(
        name, partition, seed, choice, load=load, build=net, num_labels=labels, input_shape=shape, is_image=True
    )


def _read(name: str, dataset: str, data_dir: str, download: bool, train: bool) -> Pool:
    """One of the data set's two files as inputs (m, channels, side, side) or (m, side, side), uint8, and labels.

    Two processes must not download into one folder at once; in a run the server has loaded the task before any silo.
    Raises FileNotFoundError where the files are missing or cannot be fetched, ValueError where they are damaged.
    """
    if not data_dir:
        raise NotThere(f"task={name!r} needs data-dir, the folder torchvision keeps {dataset} in")
    try:
        from torchvision import datasets
    except (ImportError, OSError, RuntimeError) as error:
        need = f"task={name!r} needs a torchvision that fits this torch ({error})"
        raise InputError(f"{need}: install this package's `vision` extra, or pip install torchvision") from error
    root = Path(data_dir).expanduser().resolve()
    folder, here = root / _FOLDERS[dataset], f"data-dir={str(root)!r}"
    try:
        found = getattr(datasets, dataset)(root=str(root), train=train, download=download)
    except Exception as error:  # torchvision lets through whatever a file's bytes or the network provoke
        why = " ".join(str(error).split())
        if download:
            failed = f"{here}: {dataset} could not be downloaded or read there ({why})"
            remedy = f"remove {str(folder)!r} and try again, or put whole files there"
            raise NotThere(f"{failed}; {remedy}") from error
        if not folder.is_dir():
            remedy = f"name the folder that {dataset} lies in, or set download=true"
            raise NotThere(f"{here} holds no {dataset}; looked for {str(folder)!r}: {remedy}") from error
        damaged = f"{here} holds a {dataset} that is incomplete or damaged, in {str(folder)!r} ({why})"
        raise InputError(f"{damaged}; remove it and set download=true, or put whole files there") from error
    inputs = np.asarray(found.data)
    if inputs.ndim == 4:
        inputs = inputs.transpose(0, 3, 1, 2)
    return inputs, np.asarray(found.targets)
