"""The task `image_folder`: a silo's own images, a folder for each class, brought to one size and one scale."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from PIL import Image, ImageOps
from pydantic import AfterValidator, Field
from torchvision import datasets, transforms

from fedlaw_flwr.tasks.base import Examples
from fedlaw_flwr.tasks.classification import ClassificationTask
from fedlaw_flwr.tasks.holdout import hold_back
from fedlaw_flwr.tasks.models import cnn
from fedlaw_flwr.tasks.options import Options, read_options

# PIL's modes of more than 8 bits a channel: converting them to 8 clips instead of scaling.
_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def _classes(value: str) -> str:
    names = _split(value)
    if len(names) < 2 or "" in names or len(set(names)) < len(names):
        raise ValueError("two or more different names are expected, separated by commas")
    return value


def _eights(side: int) -> int:
    if side % 8:
        raise ValueError("a multiple of 8 is expected, since the net halves it three times")
    return side


def _grey_or_colour(channels: int) -> int:
    if channels not in (1, 3):
        raise ValueError("1 (grey) or 3 (colour) is expected")
    return channels


class ImageOptions(Options):
    """The options of the task in silo.yaml. classes: in the net's order; mean, deviation: of pixels in [0, 1]."""

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
    are read here, once: 4 * channels * side^2 bytes each stay in memory. Raises ValueError, one sentence.
    """
    chosen = read_options(ImageOptions, "image_folder", options)
    root = Path(data_path).expanduser()
    if not data_path or not root.is_dir():
        raise ValueError(
            f"data-path={data_path!r}: there is no such folder; one with a folder for each class is expected"
        )
    if (root / "train").is_dir() and (root / "test").is_dir() and not {"train", "test"} & set(chosen.names):
        train, test = _load(root / "train", chosen), _load(root / "test", chosen)
    else:
        train, test = hold_back(_load(root, chosen), chosen.test_share, chosen.split_seed)
    return ClassificationTask(
        "image_folder",
        num_labels=len(chosen.names),
        net=partial(cnn, len(chosen.names), chosen.channels, chosen.side),
        train=train,
        test=test,
        agreed=chosen.description(),
    )


class _AgreedFolders(datasets.ImageFolder):  # type: ignore[misc]  # torchvision has no types
    """torchvision's, with labels by the agreed order rather than by what folders this silo happens to have."""

    def __init__(self, root: Path, options: ImageOptions) -> None:
        self._options = options
        steps = [transforms.Resize(options.side), transforms.CenterCrop(options.side), transforms.ToTensor()]
        steps.append(transforms.Normalize([options.mean] * options.channels, [options.deviation] * options.channels))
        super().__init__(str(root), transforms.Compose(steps), loader=self._open, allow_empty=True)

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        names = self._options.names
        there = sorted(path.name for path in Path(directory).iterdir() if path.is_dir() and path.name[0] != ".")
        strange = [name for name in there if name not in names]
        if strange:
            named = ", ".join(map(repr, strange[:5])) + (f" and {len(strange) - 5} more" if len(strange) > 5 else "")
            raise ValueError(f"{directory} has the folder {named}; agreed classes are {', '.join(names)}")
        return there, {name: names.index(name) for name in there}

    def _open(self, path: str) -> Any:
        """The image as the net takes it, upright."""
        try:
            with Image.open(path) as image:
                if image.mode in _DEEP:
                    raise ValueError("its pixels have more than 8 bits: export it with 8, by one rule at every silo")
                return ImageOps.exif_transpose(image).convert("RGB" if self._options.channels == 3 else "L")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            why = f"it cannot be read ({type(error).__name__})" if isinstance(error, OSError) else str(error)
            raise ValueError(f"{path}: {why}") from None


def _load(root: Path, options: ImageOptions) -> Examples:
    """All images under root, in the order of their paths. Raises ValueError where there is none."""
    found = _AgreedFolders(root, options)
    if len(found) == 0:
        raise ValueError(f"{root}: there is no image in a folder named {' or '.join(options.names)}")
    # Filled one by one: a list of them beside their stack would be twice the memory.
    inputs = torch.empty(len(found), options.channels, options.side, options.side)
    for index in range(len(found)):
        inputs[index] = found[index][0]
    return Examples(inputs, torch.tensor(found.targets))


def _split(classes: str) -> list[str]:
    return [name.strip() for name in classes.split(",")]
