"""A task's options in silo.yaml, read by name: a sentence for each that is unknown, missing or of the wrong kind."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from fedlaw_flwr.config.document import FROM_FILE
from fedlaw_flwr.core.errors import InputError


class Options(BaseModel):
    """The base of a task's options. In the file the names have hyphens: `test-share`."""

    model_config = {**FROM_FILE, "coerce_numbers_to_str": True}  # YAML reads `missing: -9` as a number


Model = TypeVar("Model", bound=Options)


def read_options(model: type[Model], task: str, options: Mapping[str, str | int | float | bool]) -> Model:
    """The options as this model.

    Args:
        model: The model of the options.
        task: The task's name, for the sentences.
        options: `options` in silo.yaml.

    Raises:
        ValueError: A sentence for each option that is wrong. An option's value is shown only where it is short, and
            never that of a `url`, which may hold a password.
    """
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        raise InputError("\n".join(_sentence(model, task, found) for found in error.errors())) from None


def names(model: type[Options]) -> list[str]:
    """The options' names as a file writes them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _sentence(model: type[Options], task: str, found: object) -> str:
    assert isinstance(found, dict)
    name = ".".join(str(part) for part in found["loc"])
    what = str(found["msg"]).removeprefix("Value error, ")
    if found["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, names(model), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(names(model))}"
        return f"task={task!r}: there is no option {name!r}; {hint}"
    if found["type"] == "missing":
        return f"task={task!r}: option {name!r} is missing"
    if found["type"] == "string_type":
        what = "one text is expected: put it in quotes, several separated by commas within them"
    shown = "" if name == "url" or len(str(found["input"])) > 80 else f"={found['input']!r}"
    return f"task={task!r}: option {name}{shown}: {what[0].lower()}{what[1:]}"
