"""The model a federation begins from where the server has no task: a safetensors file with what silos must agree on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.core.errors import InputError

_ABOUT = "fedlaw"


@dataclass(frozen=True)
class Initial:
    """The first model, and what must be true of those that receive it.

    Attributes:
        arrays: The state dict every silo will receive.
        task: The name of the task that its silos must say they learn.
        description: What its silos must say of that task, name by name.
    """

    arrays: Mapping[str, NDArray[np.generic]]
    task: str
    description: Mapping[str, str]


def save_initial(
    path: Path, arrays: Mapping[str, NDArray[np.generic]], task: str, description: Mapping[str, str]
) -> None:
    """Writes the file.

    Args:
        path: The safetensors file to make.
        arrays: The state dict every silo will receive, in its order.
        task: The name of the task that silos must say they learn.
        description: What silos must say of that task, name by name.

    Raises:
        FileExistsError: If the file is there. It is not overwritten: silos may have agreed on what is there.
    """
    from safetensors.numpy import save

    about = json.dumps({"task": task, "description": dict(description), "order": list(arrays)})
    content = save({key: value.copy(order="C") for key, value in arrays.items()}, metadata={_ABOUT: about})
    with path.open("xb") as file:
        file.write(content)


def load_initial(path: Path) -> Initial:
    """Reads the file; of any safetensors file the arrays, with no description.

    Raises:
        ValueError: If it cannot be read, holds a type NumPy has not, or a description that is no mapping of texts. The
            message is one sentence.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {}).get(_ABOUT, "{}"))
            arrays = {key: _numbers(path, file, key) for key in about.get("order") or file.keys()}
    except InputError:
        raise
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise InputError(f"initial-model={str(path)!r}: no safetensors file can be read there ({error})") from None
    description = about.get("description", {})
    if not isinstance(description, dict) or not all(isinstance(value, str) for value in description.values()):
        raise InputError(f"initial-model={str(path)!r}: its description is no mapping of texts; make it anew")
    return Initial(arrays, str(about.get("task", "")), description)


def _numbers(path: Path, file: Any, key: str) -> NDArray[np.generic]:
    """An array of an open file. Raises InputError for one of a type that NumPy has not, as bfloat16."""
    try:
        found: NDArray[np.generic] = file.get_tensor(key)
    except (TypeError, AttributeError, KeyError) as error:
        kind = file.get_slice(key).get_dtype()
        where = f"initial-model={str(path)!r}"
        raise InputError(f"{where}: array {key!r} is {kind}, which NumPy has not; save the model as float32") from error
    return found
