"""The reference page of the settings and the block in pyproject.toml, made from the settings' definitions.

`python -m fedlaw_flwr.config.reference` brings docs/reference/settings.md and pyproject.toml of the working directory
into step; a test says when they are not.
"""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from fedlaw_flwr.config.settings import every_setting
from fedlaw_flwr.core.setting import Setting

PAGE = Path("docs/reference/settings.md")
_BLOCK, _NEXT = "[tool.flwr.app.config]\n", "\n["
_HEAD = """\
# Settings

<!-- Made by `python -m fedlaw_flwr.config.reference`; do not edit. -->

These are the settings of a run, named as in `--run-config` and in `fedlaw run name=value`. `FedLAW(...)` in Python
takes those of the groups *The server* and *How FedLAW learns its weights*, with underscores in place of hyphens. A
wrong name, type or value is refused before anything starts, with one sentence for each.

How a run is computed is not a setting but an option of `fedlaw run`: `--engine ray` (the default), `--engine
in-process`, or `--engine batched` with `--silos-per-batch` (64), the number of silos that train together.
"""


def page() -> str:
    """The reference page, Markdown: a table for each group of settings."""
    parts = [_HEAD]
    for group, settings in groupby(every_setting(), lambda one: one.group):
        rows = [f"\n## {group}\n", "| setting | default | what it does | allowed | unit |", "|---|---|---|---|---|"]
        rows += [
            f"| `{one.wire_name}` | {_shown(one)} | {_cell(_help(one))} | {_cell(one.allowed)} | {_cell(one.unit)} |"
            for one in settings
        ]
        parts.append("\n".join(rows) + "\n")
    return "".join(parts)


def block() -> str:
    """The lines of `[tool.flwr.app.config]`: every setting with its default.

    The names of the release before stand at the end, empty: Flower refuses a `--run-config` with any other name.
    """
    lines = [f"{one.wire_name} = {_toml(one.default)}" for one in every_setting()]
    formerly = [one for one in every_setting() if one.formerly]
    lines.append("# Names of release 0.1, taken for one release more; empty: not given.")
    lines += [f'{one.formerly} = ""' for one in formerly]
    return "\n".join(lines) + "\n"


def pyproject(text: str) -> str:
    """The text of pyproject.toml with the block in step."""
    start = text.index(_BLOCK) + len(_BLOCK)
    return text[:start] + block() + text[text.index(_NEXT, start) :]


def _help(one: Setting) -> str:
    return f"{one.help} (formerly `{one.formerly}`)" if one.formerly else one.help


def _shown(one: Setting) -> str:
    return "batch-norm names" if one.name == "buffers" else f"`{json.dumps(one.default)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _toml(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) and "\\" in value else json.dumps(value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    project = Path("pyproject.toml")
    project.write_text(pyproject(project.read_text(encoding="utf-8")), encoding="utf-8")
