"""The task `image_folder`: a silo's own images, a folder for each class, brought to one size and one scale."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from pydantic import AfterValidator, Field
from torchvision import transforms

from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.records.holdout import hold_back
from fedlaw_flwr.records.image_files import find, summary
from fedlaw_flwr.records.options import Options, read_options
from fedlaw_flwr.records.pictures import read
from fedlaw_flwr.records.spelling import clean
from fedlaw_flwr.tasks.base import Examples
from fedlaw_flwr.tasks.classification import ClassificationTask
from fedlaw_flwr.tasks.models import cnn

_log = logging.getLogger("fedlaw.silo")
# So many files that cannot be read are named, so that they can be mended at once.
_NAMED = 10


def _classes(value: str) -> str:
    names = _split(value)
    if len(names) < 2 or "" in names or len(set(names)) < len(names):
        raise InputError("two or more different names are expected, separated by commas")
    return value


def _eights(side: int) -> int:
    if side % 8:
        raise InputError("a multiple of 8 is expected, since the net halves it three times")
    return side


def _grey_or_colour(channels: int) -> int:
    if channels not in (1, 3):
        raise InputError("1 (grey) or 3 (colour) is expected")
    return channels


class ImageOptions(Options):
    """The options of the task in silo.yaml.

    Attributes:
        classes: The classes, in the net's order.
        side: The images' side in pixels.
        channels: The images' channels: 1 for grey, 3 for colour.
        mean: The mean of pixels in [0, 1].
        deviation: The deviation of pixels in [0, 1].
        test_share: The share of each class that is held back.
        split_seed: The seed of the split.
    """

    classes: Annotated[str, AfterValidator(_classes)]
    side: Annotated[int, Field(ge=8, le=1024), AfterValidator(_eights)] = 32
    channels: Annotated[int, AfterValidator(_grey_or_colour)] = 3
    mean: Annotated[float, Field(ge=0, le=1)] = 0.5
    deviation: Annotated[float, Field(gt=0, le=1)] = 0.5
    test_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    split_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @property
    def names(self) -> list[str]:
        """The classes, in order."""
        return _split(self.classes)

    def description(self) -> dict[str, str]:
        """What must be the same at every silo."""
        return {
            "classes": f"labels {', '.join(self.names)}",
            "images": f"side {self.side}; channels {self.channels}; mean {self.mean!r}; deviation {self.deviation!r}",
            "net": "convolutions 32, 64, 64; group-norm 8",
        }


def task(data_path: str, options: Mapping[str, str | int | float | bool]) -> ClassificationTask:
    """The silo's task over the class folders in data-path: a `tasks.base.SiloTaskFactory`.

    Where data-path holds `train` and `test`, these are the split; else test-share of each class is held back. Images
    are read here, once: 4 * channels * side^2 bytes each stay in memory.

    Args:
        data_path: `data-path` in silo.yaml.
        options: `options` in silo.yaml.

    Raises:
        ValueError: One sentence.
    """
    chosen = read_options(ImageOptions, "image_folder", options)
    root = Path(data_path).expanduser()
    if not data_path or not root.is_dir():
        raise InputError(
            f"data-path={data_path!r}: there is no such folder; one with a folder for each class is expected"
        )
    noticed: list[str] = []
    if (root / "train").is_dir() and (root / "test").is_dir() and not {"train", "test"} & set(chosen.names):
        beside = sorted(path.name for path in root.iterdir() if path.name not in ("train", "test"))
        if beside := [name for name in beside if not name.startswith(".")]:
            noticed.append(f"{root}: train and test are read, and not what lies beside them: {', '.join(beside[:5])}")
        train, test = _load(root / "train", chosen, noticed), _load(root / "test", chosen, noticed)
    else:
        train, test = hold_back(_load(root, chosen, noticed), chosen.test_share, chosen.split_seed)
    for said in noticed:
        _log.warning("%s", said)
    return ClassificationTask(
        "image_folder",
        num_labels=len(chosen.names),
        net=partial(cnn, len(chosen.names), chosen.channels, chosen.side),
        train=train,
        test=test,
        agreed=chosen.description(),
        noticed=tuple(noticed),
    )


def _load(root: Path, options: ImageOptions, noticed: list[str]) -> Examples:
    """All pictures under root, in the order of their paths; sentences about what was not read are added to noticed.

    Raises ValueError where there is none, and a sentence for each that cannot be read as it is meant.
    """
    found = find(root, options.names)
    skipped = summary(found, root, options.names)
    if not found.pictures:
        raise InputError(
            "\n".join([f"{root}: there is no image in a folder named {' or '.join(options.names)}", *skipped[:-1]])
        )
    noticed += skipped
    steps = [transforms.Resize(options.side), transforms.CenterCrop(options.side), transforms.ToTensor()]
    steps.append(transforms.Normalize([options.mean] * options.channels, [options.deviation] * options.channels))
    as_seen = transforms.Compose(steps)
    # Filled one by one: a list of them beside their stack would be twice the memory.
    inputs = torch.empty(len(found.pictures), options.channels, options.side, options.side)
    wrong, odd = list[str](), dict[str, list[str]]()
    for index, (path, _) in enumerate(found.pictures):
        try:
            picture = read(path, "RGB" if options.channels == 3 else "L")
        except ValueError as error:
            wrong.append(str(error))
            continue
        inputs[index] = as_seen(picture.image)
        for what in picture.noticed:
            odd.setdefault(what, []).append(str(path.relative_to(root)))
    if wrong:
        more = [f"{root}: {len(wrong) - _NAMED} more files cannot be read"] if len(wrong) > _NAMED else []
        raise InputError("\n".join([*wrong[:_NAMED], *more]))
    noticed += [f"{root}: {len(paths)} pictures {what}, {paths[0]} first" for what, paths in odd.items()]
    return Examples(inputs, torch.tensor([label for _, label in found.pictures]))


def _split(classes: str) -> list[str]:
    return [clean(name) for name in classes.split(",")]
