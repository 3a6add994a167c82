"""What a researcher may choose about a pooled task beside its partition and seed: files, examples, inputs, widths."""

from dataclasses import dataclass

from fedlaw_flwr.core.errors import InputError

INPUTS = ("standardised", "unit", "centred")
"""How inputs are scaled, by constants of the training split: (x - mean) / deviation; (x - min) / (max - min), in
[0, 1]; or twice that less 1, in [-1, 1]."""


@dataclass(frozen=True)
class Choice:
    """What a researcher chose about a pooled task.

    Attributes:
        data_dir: Where torchvision's files lie.
        download: Whether torchvision may fetch them.
        train_examples: How many of the training split are dealt, 0 for all.
        inputs: How inputs are scaled, one of INPUTS.
        widths: Of a perceptron's hidden layers or of the CNN's three convolutions; empty for the task's own.
    """

    data_dir: str = ""
    download: bool = False
    train_examples: int = 0
    inputs: str = "standardised"
    widths: tuple[int, ...] = ()


AS_IT_COMES = Choice()
"""Nothing chosen."""


def widths_of(text: str) -> tuple[int, ...]:
    """The widths in a text such as "200,100"; none in an empty one.

    Raises:
        ValueError: For anything but whole numbers from 1 up.
    """
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError("whole numbers from 1 up are expected, with commas between them: 200,100")
    return tuple(int(part) for part in parts)
