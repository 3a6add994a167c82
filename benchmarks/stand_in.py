"""Data on disk in place of those that Flower's own examples download, for `benchmarks.quickstarts`.

scikit-learn's embedded data sets stand in for what is asked for; or MNIST itself, where its files are at hand.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits, load_iris

from fedlaw_flwr.core.errors import InputError

MNIST = "ylecun/mnist"
"""What three of the examples ask for."""


def data(name: str, seed: int, mnist: Path | None = None) -> dict[str, Any]:
    """Data in the shape of a data set that an example asks for, in an order that the seed decides.

    Args:
        name: The data set.
        seed: Of the order.
        mnist: torchvision's folder of MNIST, to answer with the data set itself where that is what is asked for.

    Returns:
        For each split its columns, by name.

    Raises:
        ValueError: For a data set that no example asks for.
    """
    if name == MNIST and mnist is not None:
        from torchvision.datasets import MNIST as Mnist

        splits = {}
        for split in ("train", "test"):
            found = Mnist(str(mnist), train=split == "train")
            order = np.random.default_rng(seed).permutation(len(found))
            pictures, labels = zip(*(found[row] for row in order.tolist()), strict=True)
            splits[split] = {"image": list(pictures), "label": list(labels)}
        return splits
    if name in ("uoft-cs/cifar10", MNIST):
        column, mode, side = ("img", "RGB", 32) if name == "uoft-cs/cifar10" else ("image", "L", 28)
        digits = load_digits()
        order = np.random.default_rng(seed).permutation(len(digits.target))
        images = [_picture(digits.images[row], mode, side) for row in order]
        labels = digits.target[order].tolist()
        test = len(order) // 5  # the split "test", which no client has
        return {
            "train": {column: images[test:], "label": labels[test:]},
            "test": {column: images[:test], "label": labels[:test]},
        }
    if name == "hitorilabs/iris":
        columns: tuple[str, ...]
        found, columns = load_iris(), ("sepal_length", "sepal_width", "petal_length", "petal_width")
        last: tuple[str, Sequence[Any]] = ("species", found.target.tolist())
    elif name == "scikit-learn/adult-census-income":  # 14 columns of a table and two classes, as texts
        found, columns = load_breast_cancer(), tuple(f"column {number}" for number in range(14))
        last = ("income", np.array(["<=50K", ">50K"])[found.target].tolist())
    else:
        raise InputError(f"no data stand in for {name!r}")
    order = np.random.default_rng(seed).permutation(len(found.target))
    table = {column: found.data[order, number].tolist() for number, column in enumerate(columns)}
    return {"train": table | {last[0]: [last[1][row] for row in order]}}


def _picture(pixels: Any, mode: str, side: int) -> Image.Image:
    """Eight by eight numbers from 0 to 16 as a picture of `side` pixels."""
    small = Image.fromarray((pixels * 255 / 16).astype(np.uint8))
    return small.resize((side, side), Image.Resampling.BILINEAR).convert(mode)


def stand_in(seed: int, mnist: Path | None = None) -> None:
    """Makes `datasets.load_dataset`, from which every example takes its data, answer with `data`.

    What an example has several processes for is then done in this one: a fork of a process in which JAX has threads
    waits forever.
    """
    import datasets

    def load_dataset(path: str, name: str | None = None, split: str | None = None, **_: Any) -> Any:
        found = {}
        for which, columns in data(path, seed, mnist).items():
            features = {
                column: datasets.Image()
                if isinstance(values[0], Image.Image)
                else datasets.Value({int: "int64", float: "float64", str: "string"}[type(values[0])])
                for column, values in columns.items()
            }
            found[which] = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
        return datasets.DatasetDict(found) if split is None else found[split]

    mapped = datasets.Dataset.map

    def map_here(self: Any, *args: Any, **told: Any) -> Any:
        return mapped(self, *args, **{**told, "num_proc": None})

    datasets.load_dataset = load_dataset
    datasets.Dataset.map = map_here
