"""The page on events and the run folder, docs/reference/events.md, made from the docstrings of the events.

`python -m fedlaw_flwr.events.reference` prints it.
"""

import inspect
import re
from dataclasses import Field, fields
from typing import Any

from fedlaw_flwr.events.folder import EVENTS, MODEL, SETTINGS
from fedlaw_flwr.events.types import KINDS, VERSION, ExchangeTotals

_PAGE = f"""\
# Events and run folder

<!-- Made by `python -m fedlaw_flwr.events.reference`; do not edit. -->

A run writes down what happens in a folder of its own. The setting `run-dir` names the folder. Without it, a new folder
under `runs/` is named by time, task, strategy and attack. A run never overwrites another: it ends with an error if the
folder already holds a run, unless it [resumes](../how-to/recover.md) that run.

## Files of a run folder

| File | What it holds | Written |
|---|---|---|
| `{SETTINGS}` | every setting of the run, by its name | before anything else |
| `{EVENTS}` | the events, one JSON object a line | line by line, as they happen |
| `{MODEL}` | the final model: each array by its name in the model | at the end; not by a run that failed |
| `checkpoints/` | what the run is resumed from, if its server ends before it does | after every round |
| `launch.json` | with which engine `fedlaw run` computes the run | before anything else, by `fedlaw run` only |
| `ledger.jsonl` | [the ledger](../how-to/check-the-ledger.md): what each silo sent and its fate | each round |
| `ledger.key` | the run's own signing key, where `server-key` names none; for the server alone | before round 1 |
| `report.html` | the report: who was excluded, when, why, at what cost | at the end, and by `fedlaw report` |
| `comparison.html` | the same, with other runs beside this one | by `fedlaw compare` |
| `flower.log` | the log of Flower's processes | by the engine `ray` only |

## How to read events

- Each line of `{EVENTS}` is one JSON object in UTF-8. Its `kind` says which event it is.
- Names have hyphens. A value that is not known, or that does not exist for this run, is left out.
- A line is complete once its line break is written. While a run goes on, leave out the text after the last line break.
- A run that is resumed writes the file anew, without the lines after its checkpoint: the event `resumed` has those.
- Numbers are written in full. Losses, norms and metrics may be `NaN` or `Infinity`, which Python's `json` reads.
- Silos are named as the operator registered them; in a simulation they are `silo 0`, `silo 1` and so on. A silo
  without a name so far is `node` and its node id.

In Python, `fedlaw_flwr.events.folder.read_events` yields the events of a folder as objects of the classes named here.
`fedlaw_flwr.events.record.Run.read` sorts them into rounds and weights, and says who is excluded.
`fedlaw_flwr.load_run` gives [tables for pandas](../how-to/look-at-runs.md#in-python).

## Versions

The first event, `run`, says the version of the events. A run that failed before it began has only the event `end`. This
page describes version {VERSION}. A later release may add kinds and names to a version; none changes its meaning.
Ignore the kinds and names that you do not know. A change that breaks a reader gets a new version.

Release 0.1 wrote version 1, which named no version. `read_events` reads it as version {VERSION}. Version 1 had the same
information under other names: the kinds `quarantine`, `turned-away`, `unseen` and `evaluate`; in a round `held`,
`coalitions`, `turned` and `dodged`; the phases `learned` and `held`; metrics beside the `round`, not under `metrics`.

## Kinds of events
"""


def page() -> str:
    """The page, Markdown."""
    parts = [_PAGE]
    for kind, event in KINDS.items():
        parts.append(f"### `{kind}`\n\n{_about(event)}\n\nClass: `{event.__name__}`.\n\n{_table(event)}")
        if kind == "round":
            parts.append(f"#### Each of the `exchanges`\n\n{_about(ExchangeTotals)}\n\n{_table(ExchangeTotals)}")
    return "\n".join(parts)


def _about(owner: type) -> str:
    return " ".join(inspect.cleandoc(owner.__doc__ or "").partition("Attributes:")[0].split())


def _table(owner: type) -> str:
    """A row for each field: its name in the file, its type and what it says."""
    said = described(owner)
    lines = ["| Name | Type | What it says |", "|---|---|---|"]
    for one in fields(owner):
        text = re.sub(r"\bNone\b", "left out", said[one.name]).replace("|", "\\|").replace("<", "&lt;")
        lines.append(f"| `{one.name.replace('_', '-')}` | {_type(one)} | {text} |")
    return "\n".join(lines) + "\n"


def described(owner: type) -> dict[str, str]:
    """What the docstring's `Attributes:` say of each field."""
    section = inspect.cleandoc(owner.__doc__ or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", section, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


_TYPES = {
    "int": "integer",
    "float": "number",
    "str": "text",
    "bool": "true or false",
    "tuple[str, ...]": "list of texts",
    "tuple[float, ...]": "list of numbers",
    "tuple[float | None, ...]": "list of numbers, null where there is none",
    "tuple[tuple[float | None, ...], ...]": "list of lists of numbers, null where there is none",
    "tuple[tuple[str, ...], ...]": "list of lists of texts",
    "tuple[ExchangeTotals, ...]": "list of objects",
    "Mapping[str, Any]": "object",
    "Mapping[str, str]": "object of texts",
    "Mapping[str, float]": "object of numbers",
    "Mapping[str, Mapping[str, float]]": "object of objects of numbers",
    "Mapping[str, tuple[float | None, ...]]": "object of lists of numbers, null where there is none",
}
"""A field's type as the file has it."""


def _type(one: "Field[Any]") -> str:
    name = one.type if isinstance(one.type, str) else _annotation(one.type)
    plain = _TYPES[name.removesuffix(" | None")]
    return f"{plain}, or left out" if one.default is None else plain


def _annotation(kind: Any) -> str:
    text = getattr(kind, "__name__", "") if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)


if __name__ == "__main__":
    print(page(), end="")
