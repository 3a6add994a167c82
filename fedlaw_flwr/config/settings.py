"""Every setting of a run, put together from the groups that define them, and what no group alone can check."""

import logging
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import FrozenInstanceError, asdict, dataclass, fields
from datetime import date, time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedlaw_flwr.attacks import load_attack
from fedlaw_flwr.attacks.options import AttackOptions
from fedlaw_flwr.attacks.plan import AttackPlan
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.core.partition import Partition
from fedlaw_flwr.core.setting import Setting, check_settings, did_you_mean, setting, settings_of, wrong_values
from fedlaw_flwr.core.simplex import Simplex, byzantine_count
from fedlaw_flwr.learners.learning import check_fraction as check_sample
from fedlaw_flwr.learners.options import WeightOptions, check_together
from fedlaw_flwr.rules import RULES, RuleOptions, RuleSettings, check, check_fraction
from fedlaw_flwr.strategy.options import ServerOptions
from fedlaw_flwr.tasks import OWN, TASKS, load_task
from fedlaw_flwr.tasks.choice import Choice, widths_of
from fedlaw_flwr.tasks.options import TaskOptions
from fedlaw_flwr.training.options import TrainingOptions

if TYPE_CHECKING:
    from fedlaw_flwr.tasks.base import Task

_log = logging.getLogger("flwr")

STRATEGIES = ("fedlaw", *RULES)
"""What `strategy` allows: FedLAW (`variant` says in which way weights are learned) and every one-exchange rule."""


class SettingsError(InputError):
    """One or more settings are wrong; the text has a line for each."""


def _run_name(value: str) -> str:
    if value and (not re.fullmatch(r"[\w.-]+", value) or value.strip(".") == ""):
        raise InputError("the name of a run folder is expected, and no path")
    return value


@dataclass(kw_only=True)
class RunOptions:
    """The run"""

    strategy: str = setting("fedlaw", "fedlaw, or a one-exchange rule", choices=STRATEGIES)
    num_rounds: int = setting(20, "model updates", least=1, unit="rounds")
    timeout: float = setting(600.0, "how long an exchange waits for its silos", above=0, unit="seconds")
    evaluate_every: int = setting(
        1,
        "the server measures the model after every this many rounds, and after the last; 0: after the last alone",
        least=0,
        unit="rounds",
    )
    root_data: int = setting(
        0,
        "with variant review: so many labelled examples at the server, of the validation split, whose review is a "
        "voice beside the silos' reviews; 0: none",
        least=0,
        unit="examples",
    )
    run_dir: str = setting("", "the run folder; a new one under runs/ if empty")
    resume: str = setting(
        "",
        "a run of this server whose server ended before it did: the name of its run folder, and no path; the run goes "
        "on after its last checkpoint; empty: a new run",
        allowed="a name of letters, digits, dots, hyphens and underscores",
        check=_run_name,
    )
    resume_changed: bool = setting(
        False, "with resume: settings that differ from those the run began with are meant to; without, they are refused"
    )


@dataclass(kw_only=True, unsafe_hash=True)
class Settings(RuleOptions, WeightOptions, ServerOptions, RunOptions, TrainingOptions, AttackOptions, TaskOptions):
    """The settings of one run, checked together and not changed afterwards.

    In files, on the command line and in `--run-config` their names have hyphens: `num-rounds`.

    Raises:
        ValueError: For the first value that is not allowed; `read` collects them all.
    """

    def __post_init__(self) -> None:
        check_settings(self)
        try:
            self._check_strategy()
            self._check_data()
        except ValueError as error:
            raise InputError(_with_hyphens(str(error))) from None
        object.__setattr__(self, "_checked", True)

    def __setattr__(self, name: str, value: Any) -> None:
        if "_checked" in self.__dict__:
            raise FrozenInstanceError(f"cannot assign to {name!r}")
        object.__setattr__(self, name, value)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Settings":
        """Settings from run-config names and values; the names of the release before are taken too.

        Raises:
            SettingsError: A line for each name or value that is wrong.
        """
        for sentence in renamed(values):
            _warn_once(sentence)
        named, problems = _by_name(current_names(values))
        formerly = {one.name: one.formerly for one in every_setting() if values.get(one.formerly, "") != ""}
        problems += wrong_values(cls, named, formerly)
        if problems:
            raise SettingsError("\n".join(problems))
        try:
            return cls(**named)
        except ValueError as error:
            raise SettingsError(str(error)) from None

    def as_config(self) -> dict[str, Any]:
        """The settings under their hyphenated names, as `read` takes them."""
        return {name.replace("_", "-"): value for name, value in asdict(self).items()}

    def _check_strategy(self) -> None:
        if self.strategy == "fedlaw":
            if self.size_cap:
                raise InputError(f"size-cap={self.size_cap}: FedLAW learns its weights; only fedavg weighs by size")
            simplex = Simplex.for_federation(self.num_silos, self.max_byzantine, self.s, self.t)
            if self.s_start and not simplex.s <= self.s_start <= self.num_silos:
                allowed = (
                    f"with num-silos={self.num_silos} and s={simplex.s}, {simplex.s} to {self.num_silos} are allowed"
                )
                raise InputError(f"s-start={self.s_start}: {allowed}; 0 is off")
            check_sample(self, self.fraction_train, simplex, self.quorum)
            if self.weight_rounds == 0 and self.refresh_every == 0:
                raise InputError(
                    'weight-rounds=0 and refresh-every=0: no weight is ever learned; that is strategy="fedavg"'
                )
        else:
            check(self.strategy, self.num_silos, self.rule_settings())
            check_fraction(self.strategy, self.fraction_train, self.num_silos, self.rule_settings())
        check_together(self)
        if self.root_data and (self.strategy != "fedlaw" or self.variant != "review" or self.task == OWN):
            raise InputError(
                f"root-data={self.root_data}: only strategy='fedlaw' with variant='review' has a review of the "
                "server's own, and only on a task whose examples are here"
            )
        if self.min_silos > self.num_silos:
            raise InputError(f"min-silos={self.min_silos}: more than the num-silos={self.num_silos} there are")
        if self.quorum > self.num_silos:
            raise InputError(f"quorum={self.quorum}: more than the num-silos={self.num_silos} there are")

    def _check_data(self) -> None:
        if (self.task == OWN) != bool(self.initial_model):
            raise InputError(
                f"task={self.task!r} and initial-model={self.initial_model!r}: the task 'own' begins from the file "
                "that initial-model names, and no other task does"
            )
        if self.initial_model and not Path(self.initial_model).is_file():
            raise InputError(f"initial-model={self.initial_model!r}: there is no such file")
        if self.task == OWN and self.attack != "none":
            raise InputError(f"attack={self.attack!r}: a run never makes real silos attack; task='own' allows none")
        for attack in set(self.attack_plan().attacks.values()):
            if load_attack(attack).needs_images and not TASKS[self.task].is_image:
                images = ", ".join(name for name, entry in TASKS.items() if entry.is_image)
                raise InputError(f"attack={attack!r} needs a task with images ({images}), task={self.task!r} has none")
        self.partition_plan()
        if self.task != OWN:
            TASKS[self.task].check_widths(widths_of(self.widths))
        if self.task != OWN and TASKS[self.task].needs_files and not self.data_dir:
            raise InputError(f"task={self.task!r} needs data-dir, the folder torchvision keeps its files in")
        if self.data_dir and not Path(self.data_dir).is_dir():
            raise InputError(f"data-dir={self.data_dir!r}: there is no such folder")

    def rule_settings(self) -> RuleSettings:
        """The numbers of the one-exchange rules, 0 meaning the rule's own.

        Raises:
            ValueError: For a max-byzantine that cannot hold for this many silos.
        """
        own = {one.name for one in fields(RuleSettings) if one.default is None}
        numbers: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(RuleOptions)}
        numbers |= {name: numbers[name] or None for name in own}
        return RuleSettings(f=byzantine_count(self.max_byzantine, self.num_silos), seed=self.seed, **numbers)

    @property
    def num_labels(self) -> int:
        """L, the labels of the task; 1, of which no group is made, where only the silos know them."""
        return 1 if self.task == OWN else TASKS[self.task].num_labels

    def load_task(self) -> "Task":
        """The task, its examples dealt as the settings say; cached in `tasks.load_task`."""
        choice = Choice(self.data_dir, self.download, self.train_examples, self.inputs, widths_of(self.widths))
        return load_task(self.task, self.partition_plan(), self.seed, choice)

    def partition_plan(self) -> Partition:
        """How the task's examples are dealt to the silos."""
        return Partition(
            kind=self.partition,
            num_silos=self.num_silos,
            q=self.q,
            concentration=self.concentration,
            seed=self.seed,
        )

    def attack_plan(self) -> AttackPlan:
        """Which silo runs which attack.

        Raises:
            ValueError: For an attack that does not exist.
        """
        return AttackPlan.read(
            self.attack, self.byzantine, self.num_silos, self.byzantine_chosen, self.seed, self.num_labels
        )

    def known_attacks(self) -> dict[str, str]:
        """Who attacks and how, by the silo's name: the simulation's attackers, and a deployment's drills."""
        drills = dict(part.split(":", 1) for part in self.drills.split(",") if part)
        return {**{f"silo {silo}": attack for silo, attack in sorted(self.attack_plan().attacks.items())}, **drills}


def every_setting() -> list[Setting]:
    """Every setting of a run, in the order of the reference page and of pyproject.toml."""
    return list(settings_of(Settings).values())


def current_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with names of the release before replaced by today's; an old name with an empty text is not given."""
    formerly = {one.formerly: one.wire_name for one in every_setting() if one.formerly}
    found = {name: value for name, value in values.items() if name not in formerly}
    return found | {formerly[name]: value for name, value in values.items() if name in formerly and value != ""}


def renamed(values: Mapping[str, Any]) -> list[str]:
    """A sentence for each name among these that is of the release before."""
    formerly = {one.formerly: one.wire_name for one in every_setting() if one.formerly}
    return [
        f"{name} is now called {formerly[name]}; the next release takes only that"
        for name, value in values.items()
        if name in formerly and value != ""
    ]


def without_effect(values: Mapping[str, Any]) -> list[str]:
    """A sentence for each of these settings, given on purpose, that changes nothing beside the others given.

    Args:
        values: The settings a person gave, as `Settings.read` takes them.
    """
    named, _ = _by_name(current_names(values))
    chosen = {one.name: named.get(one.name, one.default) for one in every_setting()}
    attack, strategy, partition = chosen["attack"], chosen["strategy"], chosen["partition"]
    idle: dict[str, str] = {}
    if attack == "none":
        reason = "attack='none', so nobody attacks; name an attack of `fedlaw list`"
        idle |= dict.fromkeys(settings_of(AttackOptions).keys() - {"attack", "drills"}, reason)
    elif isinstance(attack, str) and all(":" in part for part in attack.split(",")):
        idle["byzantine"] = f"attack={attack!r} gives every share itself"
    if strategy == "fedlaw":
        idle |= dict.fromkeys(settings_of(RuleOptions), "strategy='fedlaw' learns its weights; this is another rule's")
    elif strategy in RULES:
        own = settings_of(WeightOptions).keys() - settings_of(RuleOptions).keys()
        idle |= dict.fromkeys(own, f"only strategy='fedlaw' reads it, and strategy={strategy!r}")
    if partition != "q-groups":
        idle["q"] = f"partition={partition!r} does not read it"
    if partition != "dirichlet":
        idle["concentration"] = f"partition={partition!r} does not read it"
    return [
        f"{one.wire_name}={named[one.name]!r} has no effect: {idle[one.name]}"
        for one in every_setting()
        if one.name in named and one.name in idle and named[one.name] not in (0, "")
    ]


@lru_cache
def _warn_once(sentence: str) -> None:
    """Warns in the log, once in a process: a study reads the same settings many times."""
    _log.warning(sentence)


def parsed(pairs: Sequence[str]) -> dict[str, Any]:
    """name=value arguments as settings, the value as TOML where it is TOML, else as the text it is.

    Beside TOML are taken: True and FALSE, .5 and 5., and text in typographic quotes. A date is the text it is: no
    setting is one.

    Raises:
        InputError: For an argument without =, without a name, or with a name that was given before.
    """
    values: dict[str, Any] = {}
    given: dict[str, str] = {}
    formerly = {one.formerly: one.wire_name for one in every_setting() if one.formerly}
    for pair in pairs:
        name, equals, text = (part.strip() for part in pair.partition("="))
        if not equals or not name:
            raise InputError(f"{pair!r}: a setting is written name=value")
        meant = name.replace("_", "-")
        meant = formerly.get(meant, meant)
        if meant in given:
            raise InputError(f"{name} is given twice, {given[meant]!r} and {pair!r}: give it once")
        given[meant] = pair
        values[name] = _value(text)
    return values


def _value(text: str) -> Any:
    """What a value on the command line is."""
    try:
        found = tomllib.loads(f"value = {text}") if "\n" not in text else {}
    except tomllib.TOMLDecodeError:
        found = {}
    if found.keys() == {"value"}:
        return text if isinstance(found["value"], date | time) else found["value"]
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if re.fullmatch(r"[+-]?(?:(?:0|[1-9]\d*)\.|\.\d+)(?:[eE][+-]?\d+)?", text):
        return float(text)
    quoted = re.fullmatch(r"[“„«](.*)[”“»]", text)
    return quoted[1] if quoted else text


def _by_name(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values by Python name, and a line for each name that is no setting."""
    known = {one.wire_name: one.name for one in every_setting()}
    named, problems = {}, []
    for name, value in values.items():
        wire = name.replace("_", "-")
        if wire in known:
            named[known[wire]] = value
        else:
            problems.append(f"{wire}: there is no such setting{did_you_mean(wire, list(known))}")
    return named, problems


def _with_hyphens(text: str) -> str:
    """What a group, whose names are Python's, says of a setting: warm_rounds=4 is warm-rounds=4 here."""
    return re.sub(r"\b[a-z]+(?:_[a-z]+)+(?==|\b at 0)", lambda name: name[0].replace("_", "-"), text)
