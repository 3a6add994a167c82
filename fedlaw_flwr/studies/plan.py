"""An experiment file: methods, settings and seeds, multiplied out into the runs it stands for."""

import hashlib
import json
import logging
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from fedlaw_flwr.config.document import FROM_FILE, Document, DocumentError
from fedlaw_flwr.config.settings import Settings, SettingsError, every_setting, parsed, renamed
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.studies.table import recorded

_log = logging.getLogger("flwr")

Value = bool | int | float | str
Axis = list[Value]
ByAnother = dict[str, dict[Value, Value]]
"""{other: {its value: ours}}: a setting whose value hangs on another's; not set where that has no value listed."""

WHERE = ("data-dir", "download", "device", "run-dir", "timeout", "startup-timeout", "wait", "seed")
"""Settings that are no part of what an experiment is: the machine's own, and the seed, which `seeds` says."""


def _plain(value: Any) -> Any:
    if not isinstance(value, bool | int | float | str):
        raise InputError("a number, a text, true or false is expected")
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+e[-+]?\d+", value, re.IGNORECASE):
        raise InputError("this is a text to YAML; written with a point, 1.0e-2, it is a number")
    return value


def _plain_or_by_another(value: Any) -> Any:
    if not isinstance(value, dict):
        return _plain(value)
    if len(value) != 1 or not all(isinstance(by, dict) and by for by in value.values()):
        raise InputError("a value, or one other setting's values and what goes with each: {attack: {lie: 1}}")
    return {str(other): {_plain(key): _plain(each) for key, each in by.items()} for other, by in value.items()}


def _some(value: Any) -> Any:
    if value is None or value == []:
        raise InputError("a value or a list of values is expected")
    return [_plain(each) for each in value] if isinstance(value, list) else _plain(value)


class Figure(BaseModel):
    """One picture.

    Attributes:
        kind: What is drawn. accuracy: over rounds. exchanges: accuracy over communication rounds, an exchange each (the
            paper's Figure 8). weights: every silo's over rounds (Figures 1 and 4). attackers: their mean weight over
            rounds (Figure 9). sweep: the last validation accuracy over the setting that `over` names (Table 2).
        over: The setting that a sweep is over.
        panels: The settings whose values have a panel each.
        methods: The methods drawn, all if empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["accuracy", "exchanges", "weights", "attackers", "sweep"]
    title: str = ""
    over: str = ""
    panels: list[str] = []
    methods: list[str] = []


Said = Annotated[Value | ByAnother, BeforeValidator(_plain_or_by_another)]


class _File(BaseModel):
    model_config = {**FROM_FILE, "populate_by_name": False}

    about: str
    settings: dict[str, Said] = {}
    methods: Annotated[dict[str, dict[str, Said]], Field(min_length=1)]
    runs: Annotated[list[dict[str, Annotated[Value | Axis, BeforeValidator(_some)]]], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(strict=True, ge=0)]], Field(min_length=1)]
    paper: str = ""
    paper_detection: str = ""
    silos_per_batch: Annotated[int, Field(strict=True, ge=1)] = 64
    figures: list[Figure] = []


@dataclass(frozen=True)
class PlannedRun:
    """One run of an experiment: a method under one choice of every axis, with one seed.

    Attributes:
        values: The settings that the file decides, by name, references resolved, without the seed.
    """

    method: str
    values: Mapping[str, Value]
    seed: int

    @property
    def text(self) -> str:
        """The settings as a shell hands them to `fedlaw run`, sorted by name."""
        values = sorted({**self.values, "seed": self.seed}.items())
        return shlex.join(f"{name}={_toml(value)}" for name, value in values)

    @property
    def key(self) -> tuple[str, str]:
        """What makes two runs the same; see `table.key_of`."""
        return self.method, recorded(self.text)

    @property
    def name(self) -> str:
        """Ten hexadecimal digits, of the key alone: the names of the run's folder and curve."""
        return hashlib.sha256("\n".join(self.key).encode()).hexdigest()[:10]

    def settings(self, where: Mapping[str, Any]) -> Settings:
        """Its settings on this machine.

        Args:
            where: The settings of this machine, those of WHERE.

        Raises:
            SettingsError: For settings that do not hold together.
        """
        return Settings.read({**self.values, "seed": self.seed, **where})

    def attackers(self) -> frozenset[int]:
        """The silos that attack. No file of the task is read, so any folder passes for theirs."""
        return self.settings({"data-dir": os.curdir}).attack_plan().attackers


@dataclass(frozen=True)
class Experiment:
    """What a file says.

    Attributes:
        axes: The settings that its `runs` vary or name, in the file's order.
        paper: The file of the paper's accuracies.
        paper_detection: The file of whom the paper excluded under FedLAW (its Table 7).
    """

    name: str
    about: str
    runs: Sequence[PlannedRun]
    axes: Sequence[str]
    methods: Sequence[str]
    figures: Sequence[Figure]
    paper: Path | None
    paper_detection: Path | None
    silos_per_batch: int

    @property
    def varied(self) -> list[str]:
        """The axes in which its runs differ."""
        return [axis for axis in self.axes if len({run.values.get(axis) for run in self.runs}) > 1]

    @classmethod
    def read(cls, path: Path, where: Mapping[str, Any]) -> "Experiment":
        """Reads the file and checks every run in it.

        Settings of `runs` go before a method's, a method's before `settings`. A value "=name" is the value of the
        setting of that name; in `settings` and methods {name: {value: ...}} is what stands beside that setting's
        value. Settings may have the names of the release before; a warning says so.

        Args:
            path: The file.
            where: The settings of this machine.

        Raises:
            DocumentError: With a sentence for each thing that is wrong, with its line.
        """
        document = Document.read(path)
        file = _with_current_names(document.check(_File), document)
        runs: dict[tuple[str, str], PlannedRun] = {}
        wrong: dict[str, None] = {}  # a sentence once, in order
        for place, planned in _multiplied(file, document, wrong):
            try:
                planned.settings(where)
            except SettingsError as error:
                for line in str(error).splitlines():
                    hint = "; say it with --data-dir" if "needs data-dir" in line else ""
                    wrong.setdefault(document.wrong(_said_at(line, place, planned, document), f"{line}{hint}"))
            runs.setdefault(planned.key, planned)
        _note_unused(file, list(runs.values()), document, wrong)
        papers = {"paper": file.paper, "paper-detection": file.paper_detection}
        for key, name in papers.items():
            if name and not (path.parent / name).is_file():
                wrong.setdefault(document.wrong((key,), f"{key}={name!r}: there is no such file"))
        axes = list(dict.fromkeys(name for block in file.runs for name in block if name != "method"))
        for i, figure in enumerate(file.figures):
            known = [*axes, *(["method", "seed"] if figure.kind != "sweep" else [])]
            for method in set(figure.methods) - set(file.methods):
                what = f"method={method!r}: methods are {', '.join(file.methods)}"
                wrong.setdefault(document.wrong(("figures", i), what))
            for name in [*figure.panels, *([figure.over] if figure.kind == "sweep" else [])]:
                if name not in known:
                    what = f"{name!r} is none of the settings that runs vary: {', '.join(known)}"
                    wrong.setdefault(document.wrong(("figures", i), what))
        if wrong:
            raise DocumentError("\n".join(wrong))
        paper, detection = ((path.parent / name).resolve() if name else None for name in papers.values())
        return cls(
            name=path.stem,
            about=file.about,
            runs=list(runs.values()),
            axes=axes,
            methods=list(file.methods),
            figures=file.figures,
            paper=paper,
            paper_detection=detection,
            silos_per_batch=file.silos_per_batch,
        )


def current_name(name: str) -> str:
    """Today's name of a setting that had this one in the release before; else the name itself."""
    return next((one.wire_name for one in every_setting() if one.formerly and one.formerly == name), name)


def _with_current_names(file: _File, document: Document) -> _File:
    """The file with today's names of all settings; warns of each name of the release before, with its line."""
    depth = {"settings": 2, "methods": 3, "runs": 3}
    old: dict[str, tuple[str | int, ...]] = {}
    for place in filter(None, document.lines):
        if len(place) == depth.get(str(place[0])):
            old.setdefault(str(place[-1]), place)
    for name, place in old.items():
        for sentence in renamed({name: True}):
            _log.warning(document.wrong(place, sentence))

    def value(said: Any) -> Any:
        if isinstance(said, dict):
            return {current_name(other): by for other, by in said.items()}
        if isinstance(said, list):
            return [value(each) for each in said]
        other = _other(said)
        return said if other is None else f"={current_name(other)}"

    def block(said: Mapping[str, Any]) -> dict[str, Any]:
        return {current_name(name): value(each) for name, each in said.items()}

    figures = [
        figure.model_copy(update={"over": current_name(figure.over), "panels": list(map(current_name, figure.panels))})
        for figure in file.figures
    ]
    methods = {name: block(settings) for name, settings in file.methods.items()}
    runs = [block(run) for run in file.runs]
    return file.model_copy(
        update={"settings": block(file.settings), "methods": methods, "runs": runs, "figures": figures}
    )


def _multiplied(
    file: _File, document: Document, wrong: dict[str, None]
) -> Iterator[tuple[tuple[str | int, ...], PlannedRun]]:
    """Every run, seed after seed, and the place in the file it comes from; what cannot be one is noted in wrong."""
    names_down_to = {"settings": 3, "methods": 4, "runs": 3}  # deeper are values that others go with
    for said in filter(None, document.lines):
        if len(said) <= names_down_to.get(str(said[0]), 0) and "_" in str(said[-1]) and said[-1] not in file.methods:
            wrong.setdefault(
                document.wrong(said, f"{said[-1]}: settings are written {str(said[-1]).replace('_', '-')}")
            )
    for name in WHERE:
        places: list[tuple[str, ...]] = [("settings", name), *(("methods", method, name) for method in file.methods)]
        for said in places:
            if said in document.lines:
                wrong.setdefault(document.wrong(said, f"{name} is no part of an experiment; {_said(name)}"))
    for seed in file.seeds:
        for i, block in enumerate(file.runs):
            place: tuple[str | int, ...] = ("runs", i)
            axes = {name: value if isinstance(value, list) else [value] for name, value in block.items()}
            methods = [str(name) for name in axes.pop("method", list(file.methods))]
            for name in set(methods) - set(file.methods):
                wrong.setdefault(document.wrong(place, f"method={name!r}: methods are {', '.join(file.methods)}"))
            for name in set(WHERE) & set(axes):
                wrong.setdefault(document.wrong(place, f"{name} is no part of an experiment; {_said(name)}"))
            for chosen in product(*axes.values()):
                for method in methods:  # innermost: what is compared is done together
                    values = {**file.settings, **file.methods.get(method, {}), **dict(zip(axes, chosen, strict=True))}
                    try:
                        yield place, PlannedRun(method, _resolved(values), seed)
                    except ValueError as error:
                        wrong.setdefault(document.wrong(place, f"{method}: {error}"))


def _note_unused(file: _File, runs: Sequence[PlannedRun], document: Document, wrong: dict[str, None]) -> None:
    """Notes every value that another setting's value should go with and that no run has."""
    places: dict[tuple[str, ...], Mapping[str, Value | ByAnother]] = {("settings",): file.settings}
    places |= {("methods", method): settings for method, settings in file.methods.items()}
    for place, settings in places.items():
        seen = [run for run in runs if place[0] == "settings" or run.method == place[1]]
        for name, said in settings.items():
            for other, by in said.items() if isinstance(said, dict) else ():
                for value in set(by) - {run.values.get(other) for run in seen}:
                    wrong.setdefault(document.wrong((*place, name), f"{name}: no run here has {other}={value!r}"))


def _said_at(line: str, place: tuple[str | int, ...], planned: PlannedRun, document: Document) -> tuple[str | int, ...]:
    """Where the file says the setting that a sentence begins with: in `runs`, the method or `settings`."""
    name = line.partition("=")[0].partition(":")[0]
    spelled = [name, *(one.formerly for one in every_setting() if one.formerly and one.wire_name == name)]
    for block in (place, ("methods", planned.method), ("settings",)):
        for each in spelled:
            if (*block, each) in document.lines:
                return *block, each
    return place


def _said(name: str) -> str:
    return "the file's `seeds` says it" if name == "seed" else "it is said when the experiment is run"


def _resolved(values: Mapping[str, Value | ByAnother]) -> dict[str, Value]:
    """Every "=name" and {name: {value: ...}} replaced by what it stands for; left out where no value matches.

    Raises:
        InputError: If the setting it names has no value of its own.
    """
    own = {name: value for name, value in values.items() if not isinstance(value, dict) and _other(value) is None}
    found = dict[str, Value]()
    for name, value in values.items():
        other = _other(value)
        if other is not None and other not in own:
            raise InputError(f"{name}={value!r}: {other!r} is no setting with a value of its own here")
        if not isinstance(value, dict):
            found[name] = value if other is None else own[other]
        elif other is not None and own[other] in value[other]:
            found[name] = value[other][own[other]]
    return found


def _other(value: Value | ByAnother) -> str | None:
    """The setting whose value decides this one; None where it is a value itself."""
    if isinstance(value, dict):
        return next(iter(value))
    return value[1:] if isinstance(value, str) and value.startswith("=") else None


def _toml(value: Value) -> str:
    """As `settings.parsed` reads it back; text that would be read as something else in quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    return value if value and parsed([f"x={value}"])["x"] == value else json.dumps(value)
