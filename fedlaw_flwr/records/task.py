"""What a real silo learns: one of our tasks for institutions' data by name, or a module of the institution's own."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from fedlaw_flwr.core.errors import InputError, from_their_code
from fedlaw_flwr.core.extras import what_to_install

if TYPE_CHECKING:
    from fedlaw_flwr.tasks.base import SiloTask

Option = str | int | float | bool

SILO_TASKS = {
    "tabular": "fedlaw_flwr.records.tabular:task",
    "sql": "fedlaw_flwr.records.sql:task",
    "image_folder": "fedlaw_flwr.records.image_folder:task",
}
"""Our tasks for what institutions have: name to factory (`tasks.base.SiloTaskFactory`)."""


def is_silo_task(name: str) -> bool:
    """Whether `task` in silo.yaml names data of the silo's own, rather than its share of a public data set."""
    return name in SILO_TASKS or ":" in name


def load_silo_task(name: str, data_path: str, options: Mapping[str, Option]) -> "SiloTask":
    """The task `task: name` of silo.yaml.

    Args:
        name: A name in SILO_TASKS, or `package.module:name`.
        data_path: `data-path` in silo.yaml.
        options: `options` in silo.yaml.

    Raises:
        ValueError: One sentence, for a name there is not and for what the task itself refuses.
    """
    reference = SILO_TASKS.get(name, name)
    module, colon, attribute = reference.partition(":")
    if not colon:
        known = ", ".join(SILO_TASKS)
        raise InputError(f"task={name!r}: allowed are {known} or a module of your own, package.task:name")
    try:
        factory = getattr(import_module(module), attribute, None)
    except ImportError as error:
        raise InputError(f"task={name!r}: {module} cannot be imported here: {what_to_install(error)}") from error
    if not callable(factory):
        raise InputError(f"task={name!r}: {attribute} in {module} is {type(factory).__name__}, not a function")
    with from_their_code():
        made: SiloTask = factory(data_path, options)
    return made
