"""Two reference pages made from the code: every command of `fedlaw`, and every attack, rule and way to learn weights.

`python -m fedlaw_flwr.cli.reference` writes docs/reference/commands.md and docs/reference/attacks-and-rules.md of the
working directory; a test says when a page is out of step.
"""

import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from fedlaw_flwr.attacks import ATTACKS, load_attack
from fedlaw_flwr.learners import LEARNERS, load_learner
from fedlaw_flwr.rules import PRE_AGGREGATIONS, RULES
from fedlaw_flwr.tasks import TASKS

COMMANDS = Path("docs/reference/commands.md")
ATTACKS_AND_RULES = Path("docs/reference/attacks-and-rules.md")

_MADE_BY = "<!-- Made by `python -m fedlaw_flwr.cli.reference`; do not edit. -->"

_COMMANDS = f"""\
# Commands

{_MADE_BY}

Every command prints this with `--help`. An argument in square brackets may be left out. `...` says that several may be
given.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a run failed, a check found something wrong, or the server did not answer |
| 2 | the command cannot be done as it was given; one sentence says why |
| 70 | a fault of this program; please report it |
"""

_NAMES = {
    "fedavg": "federated averaging",
    "cclip": "centered clipping",
    "rfa": "Robust Federated Aggregation",
    "caf": "Covariance-bound Agnostic Filter",
    "nnm": "nearest-neighbour mixing",
    "lie": "a Little Is Enough",
    "ipm": "inner-product manipulation",
}
"""What an abbreviation stands for."""

_CATALOGUE = f"""\
# Attacks and rules

{_MADE_BY}

`fedlaw list` prints these names with what they do and their sources. Here n is the number of silos. f is the number of
attackers that a rule assumes: b, from the setting `max-byzantine`. g is a silo's update divided by `lr`. L is the
number of labels and l is one of them. mu and sigma are the mean and the deviation of the attackers' honest updates,
coordinate by coordinate. *FedLAW* as a source is the paper, arXiv 2511.03529.
"""

_FEDLAW = "learns weights on a sparse capped simplex, two exchanges a round"
_RULES = (
    "Values of the setting `strategy`. *Guarantee* is the condition that the rule's paper puts on the number of "
    "updates. Below it the rule runs only with `beyond-guarantee=true`. *Defined* is the number of updates below "
    "which the formula has no value. Nothing lifts that condition. With buckets, n is the number of buckets."
)
_STEPS = "`bucket-size` and `nnm` set them. Each may stand before any rule but `fedlaw` and `ideal`."
_LEARNERS = (
    "Values of the setting `variant`, which only `fedlaw` reads. The first two are the paper's. `alignment` is "
    "for clients that report no loss. The others were studied here and did not become defaults."
)
_ATTACKS = (
    "Values of the setting `attack`. An attack that changes the *examples* poisons what the silo trains on. One that "
    "changes the *reply* forges the update or the loss, or sends nothing. *Colluders* share their honest updates and "
    "losses."
)


def commands_page() -> str:
    """The page of the commands, Markdown: a section for each, with its arguments and options."""
    from typer.main import get_command

    from fedlaw_flwr.cli.main import app

    root: Any = get_command(app)
    parts = [_COMMANDS, "\n## Options of `fedlaw` itself\n", _table("option", root.params)]
    for path, command in _leaves(root, ("fedlaw",)):
        parts.append(f"\n## `{' '.join(path)}`\n\n{_text(command.help)}\n\n```\n{_usage(path, command)}\n```\n")
        parts += [_table(kind, command.params, _helps(command)) for kind in ("argument", "option")]
    return "".join(parts)


def attacks_and_rules_page() -> str:
    """The page of what is plugged in, Markdown: a table for each registry."""
    rules = [
        ("fedlaw", _FEDLAW, "n >= 2f + 2", "n >= 2f + 2", "ICLR 2026, Algorithm 2"),
        *(
            (name, rule.summary, f"n >= {rule.guarantee.text}", f"n >= {rule.defined.text}", rule.source)
            for name, rule in RULES.items()
        ),
    ]
    steps = [(name, step.summary, step.source) for name, step in PRE_AGGREGATIONS.items()]
    learners = [(name, one.summary, one.source) for name, one in ((name, load_learner(name)) for name in LEARNERS)]
    attacks = [(one.name, one.summary, _changes(one), one.source) for one in map(load_attack, ATTACKS)]
    tasks = [(name, entry.summary, str(entry.num_labels)) for name, entry in TASKS.items()]
    parts = [
        _CATALOGUE,
        _section("Rules", _RULES, ("what it does", "guarantee", "defined", "source"), rules),
        _section("Steps before a rule", _STEPS, ("what it does", "source"), steps),
        _section("Ways to learn weights", _LEARNERS, ("what it does", "source"), learners),
        _section("Attacks", _ATTACKS, ("what the attacker does", "changes", "source"), attacks),
        _section("Tasks", "Values of the setting `task`.", ("what is learned", "labels"), tasks),
    ]
    return "".join(parts)


def _leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that name it."""
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, one in sorted(below.items()):
        yield from _leaves(one, (*path, name))


def _usage(path: Sequence[str], command: Any) -> str:
    words = [_shown(one) for one in command.params if one.param_type_name == "argument"]
    options = [
        f"{one.opts[0]} {_metavar(one)}" for one in command.params if one.param_type_name == "option" and one.required
    ]
    more = any(one.param_type_name == "option" and not one.required for one in command.params)
    return " ".join([*path, *(["[OPTIONS]"] if more else []), *options, *words])


def _shown(argument: Any) -> str:
    name = _metavar(argument)
    name = f"{name} ..." if argument.nargs == -1 else name
    return name if argument.required else f"[{name}]"


def _metavar(one: Any) -> str:
    """What stands for a value: the name that the command gives it, else the parameter's own."""
    return str(one.metavar or one.name.replace("_", "-").upper()).strip("[]")


def _table(kind: str, params: Sequence[Any], helps: Mapping[str, str] | None = None) -> str:
    """A row for each parameter of this kind; arguments of which nothing is said are in the usage line already."""
    helps = helps or {}
    rows = [
        _row(one, one.help or helps.get(one.name, ""))
        for one in params
        if one.param_type_name == kind and (kind == "option" or helps.get(one.name))
    ]
    if not rows:
        return ""
    return "\n".join(["", f"| {kind} | default | what it is |", "|---|---|---|", *rows]) + "\n"


def _row(one: Any, help: str) -> str:
    flag = "" if one.param_type_name == "argument" or one.is_flag else f" {_metavar(one)}"
    names = [_metavar(one)] if one.param_type_name == "argument" else one.opts
    empty = one.default in (None, "", False) or callable(one.default)
    default = "needed" if one.required else "" if empty else f"`{one.default}`"
    return f"| {', '.join(f'`{name}{flag}`' for name in names)} | {default} | {_text(help)} |"


def _helps(command: Any) -> dict[str, str]:
    """The help of each parameter as the command's function gives it: newer releases of click drop an argument's."""
    hints = get_type_hints(inspect.unwrap(command.callback), include_extras=True)
    said = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {name: info.help for name, found in said.items() for info in found if getattr(info, "help", None)}


def _changes(attack: Any) -> str:
    parts = [name for name, hook in (("examples", attack.poison), ("reply", attack.forge)) if hook is not None]
    return " and ".join(parts)


def _section(title: str, about: str, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [f"\n## {title}\n\n{textwrap.fill(about, 120)}\n", f"| name | {' | '.join(columns)} |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for name, summary, *rest in rows:
        full = f"{_NAMES[name]}: " if name in _NAMES else ""
        lines.append(f"| `{name}` | {' | '.join(map(_text, (full + summary, *rest)))} |")
    return "\n".join(lines) + "\n"


def _text(words: str | None) -> str:
    """Words as one line of Markdown."""
    return " ".join((words or "").split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    COMMANDS.write_text(commands_page(), encoding="utf-8")
    ATTACKS_AND_RULES.write_text(attacks_and_rules_page(), encoding="utf-8")
