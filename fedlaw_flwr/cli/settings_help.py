"""The `--help` of a command that takes settings: each with its default, by group, after the options."""

import textwrap
from itertools import groupby
from typing import Any

from typer.core import TyperCommand

_WIDTH = 100


class SettingsCommand(TyperCommand):
    """A command whose --help lists the settings that name=value takes."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help as for any command, and the settings."""
        super().format_help(ctx, formatter)
        formatter.write(settings_help())


def settings_help() -> str:
    """A line for each setting, name=default, and one for what it does."""
    from fedlaw_flwr.config.settings import every_setting

    lines = [
        "Settings, written name=value; these are the defaults, and docs/reference/settings.md says what is allowed:"
    ]
    for group, settings in groupby(every_setting(), lambda one: one.group):
        lines += ["", f"  {group}"]
        for one in settings:
            lines.append(f"    {one.wire_name}={_shown(one.default)}")
            lines += textwrap.wrap(one.help, _WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return "\n".join(lines) + "\n"


def _shown(default: Any) -> str:
    """The default as a person writes it on the command line."""
    if isinstance(default, bool):
        return str(default).lower()
    return f"'{default}'" if isinstance(default, str) and not default.isidentifier() else str(default)
