"""A YAML file as data, with the line of every value, so that what is wrong in it can be pointed at."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from fedlaw_flwr.core.errors import InputError

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[str | int, ...]
"""The keys and indices that lead to a value: ("silos", 2, "name")."""


FROM_FILE = ConfigDict(
    frozen=True, extra="forbid", alias_generator=lambda name: name.replace("_", "-"), populate_by_name=True
)
"""`model_config` of data read from a file: never changed, no unknown keys, `data_path` written as `data-path`."""


class DocumentError(InputError):
    """Something in the file is wrong; the text has a line `FILE:LINE: what` for each."""


@dataclass(frozen=True)
class Document:
    """The data of one YAML file and where each value of it stands."""

    path: Path
    data: Any
    lines: dict[Place, int]

    @classmethod
    def read(cls, path: Path) -> "Document":
        """Reads the file.

        Raises:
            DocumentError: For a file that is missing, is no YAML, or says a key twice.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DocumentError(f"{path}: cannot be read: {error}") from None
        lines: dict[Place, int] = {}
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            _walk(node, (), lines, path)
            data = yaml.safe_load(text)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise DocumentError(f"{path}:{line}: no YAML: {error.problem}") from None
        except yaml.YAMLError as error:
            raise DocumentError(f"{path}: no YAML: {' '.join(str(error).split())}") from None
        return cls(path, data, lines)

    def check(self, model: type[Model]) -> Model:
        """The data as this model.

        Raises:
            DocumentError: A sentence for each value that is wrong.
        """
        if not isinstance(self.data, dict):
            keys = ", ".join(_keys(model))
            raise DocumentError(f"{self.path}:1: a mapping of these keys is expected: {keys}")
        try:
            return model.model_validate(self.data)
        except ValidationError as error:
            raise DocumentError("\n".join(self._sentence(model, found) for found in error.errors())) from None

    def line(self, place: Place) -> int:
        """The line of this value, or of the nearest thing around it that is in the file."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def wrong(self, place: Place, what: str) -> str:
        """One sentence about the value at this place."""
        return f"{self.path}:{self.line(place)}: {what}"

    def _sentence(self, model: type[BaseModel], found: Any) -> str:
        """One of pydantic's findings, with its line."""
        place = tuple(part.replace("_", "-") if isinstance(part, str) else part for part in found["loc"])
        where = ".".join(str(part) for part in place)
        what = str(found["msg"]).removeprefix("Value error, ")
        if found["type"] == "extra_forbidden":
            allowed = _keys(_model_at(model, place[:-1]))
            near = difflib.get_close_matches(str(place[-1]), allowed, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(allowed)}"
            return self.wrong(place, f"{where}: there is no such key; {hint}")
        if found["type"] == "missing":
            return self.wrong(place, f"{where} is missing")
        return self.wrong(place, f"{where}={found['input']!r}: {what[0].lower()}{what[1:]}")


def _keys(model: type[BaseModel]) -> list[str]:
    """The keys of this model as a file writes them."""
    return [name.replace("_", "-") for name in model.model_fields]


def _model_at(model: type[BaseModel], place: Place) -> type[BaseModel]:
    """The model of the mapping at this place."""
    for part in place:
        if isinstance(part, int):
            continue
        annotation: Any = model.model_fields[part.replace("-", "_")].annotation
        inner = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
        model = next(kind for kind in inner if issubclass(kind, BaseModel))
    return model


def _walk(node: yaml.Node | None, place: Place, lines: dict[Place, int], path: Path) -> None:
    """Notes the line of this node and of all within; a mapping's value has the line of its key."""
    if node is None:
        return
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, str(key.value))
            line = key.start_mark.line + 1
            if inner in lines:
                raise DocumentError(f"{path}:{line}: {key.value} is said twice, first in line {lines[inner]}")
            lines[inner] = line
            _walk(value, inner, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*place, index), lines, path)
