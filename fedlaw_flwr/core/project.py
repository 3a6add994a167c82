"""Starting a project from templates: its name is checked, and nothing that is there is overwritten."""

import importlib.util
import keyword
import re
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

from fedlaw_flwr.core.errors import AlreadyThere, InputError


def filled(package: str, templates: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """The texts of a project's files, made from templates.

    Args:
        package: The package of ours in whose folder `templates` they lie.
        templates: The template of each file, by the file's path within the project, in which {name} is one of `names`.
        names: What stands for each $name in the templates.
    """
    place = files(package).joinpath("templates")
    return {
        path.format(**names): Template(place.joinpath(template).read_text(encoding="utf-8")).substitute(names)
        for path, template in templates.items()
    }


def write_project(what: str, package: str, folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Writes the project `folder/package`.

    Args:
        what: What is made, for the sentence where the name is wrong, such as "silo".
        package: A Python module's name, lower case.
        folder: Where the project's folder is made.
        texts: The files' texts, by path within the project.

    Returns:
        The project's files, in order.

    Raises:
        ValueError: For any other name, or one that hides an installed module.
        FileExistsError: Where there is already something.
    """
    project = folder / package
    _check_name(what, package, project)
    folder.mkdir(parents=True, exist_ok=True)
    project.mkdir()
    for path, text in texts.items():
        target = project / path
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return sorted(project / path for path in texts)


def _check_name(what: str, package: str, project: Path) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", package) or keyword.iskeyword(package):
        raise InputError(
            f"{what} {package!r}: a Python module's name is expected: lower-case letters, digits and _, a letter "
            "first, 40 at most, no word of the language, as my_hospital"
        )
    if project.exists():
        raise AlreadyThere(f"{project} is there already: take another name or --folder, or move it away")
    if package in sys.stdlib_module_names or importlib.util.find_spec(package) is not None:
        raise InputError(f"{what} {package!r}: a module of this name is installed here already; take another")
