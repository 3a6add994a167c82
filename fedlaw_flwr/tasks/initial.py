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
    """arrays: the state dict every silo will receive. task, description: what its silos must say they learn."""

    arrays: Mapping[str, NDArray[np.generic]]
    task: str
    description: Mapping[str, str]


def save_initial(
    path: Path, arrays: Mapping[str, NDArray[np.generic]], task: str, description: Mapping[str, str]
) -> None:
    """Writes the file. Raises FileExistsError rather than overwrite: silos may have agreed on what is there."""
    from safetensors.numpy import save

    about = json.dumps({"task": task, "description": dict(description), "order": list(arrays)})
    content = save({key: value.copy(order="C") for key, value in arrays.items()}, metadata={_ABOUT: about})
    with path.open("xb") as file:
        file.write(content)


def load_initial(path: Path) -> Initial:
    """Reads the file; of any safetensors file the arrays, with no description. Raises ValueError with one sentence."""
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
