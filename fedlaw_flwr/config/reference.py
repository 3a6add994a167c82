"""The reference page of the settings and the block in pyproject.toml, made from the settings' definitions.

`python -m fedlaw_flwr.config.reference` brings docs/reference/settings.md and pyproject.toml of the working directory
into step; a test says when they are not.
"""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from fedlaw_flwr.config.settings import every_setting
from fedlaw_flwr.core.setting import Setting, settings_of
from fedlaw_flwr.strategy import FedLAW

PAGE = Path("docs/reference/settings.md")
_BLOCK, _NEXT = "[tool.flwr.app.config]\n", "\n["
_HEAD = """\
# Settings

<!-- Made by `python -m fedlaw_flwr.config.reference`; do not edit. -->

These are the settings of a run, named as in `--run-config` and in `fedlaw run name=value`. A wrong name, type or value
is refused before anything starts, with one sentence for each. `FedLAW(...)` in Python takes those of the groups *The
server* and *How FedLAW learns its weights*, with underscores in place of hyphens, and [some more](#in-python-only).

On the command line a value is written as in TOML, and a text without quotes: `q=0.9`, `attack=lie`. `True` and `.5` are
taken too. A text that looks like a number is written in quotes within quotes: `widths='"32"'`. A setting is given once.

How a run is computed is not a setting but an option of `fedlaw run`: `--engine ray` (the default), `--engine
in-process`, or `--engine batched` with `--silos-per-batch` (64), the number of silos that train together.
"""

_PYTHON = """
## In Python only

`FedLAW(...)` and `RuleStrategy(...)` take these as well. `fedlaw run` gives them by itself.

"""
_HOOKS = """\
- `on_event` (default `None`): a function that is called with each [event](events.md) of the run as it happens.
- `attackers` (default: nobody): in an experiment, the partitions known to be Byzantine. Only `clip="oracle"` and the
  rule `ideal` read it.
- `check_task` (default `None`): a function that is called once with what each silo says it learns, and returns what is
  wrong with it, a sentence each.
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
    return "".join([*parts, _PYTHON, *_in_python(), _HOOKS])


def _in_python() -> list[str]:
    """A line for each argument of the strategies that is no setting of a run."""
    known = {one.name for one in every_setting()}
    own = [one for name, one in settings_of(FedLAW).items() if name not in known or name in ("lr", "num_silos")]
    return [
        f"- `{one.name}` (default `{one.default!r}`): {one.help}."
        + (f" Allowed: {one.allowed}.\n" if one.allowed else "\n")
        for one in own
    ]


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
