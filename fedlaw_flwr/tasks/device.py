"""Where tensors live: "auto", "cpu" or "cuda"."""

import torch

from fedlaw_flwr.core.errors import InputError


def device(name: str) -> torch.device:
    """The torch device of this name.

    Args:
        name: "cpu", "cuda" or "auto", which is cuda where there is one.

    Raises:
        ValueError: For another name, and for cuda where torch finds none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"device={name!r}: allowed are auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device='cuda': torch finds no CUDA device here; use cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
