"""Every setting of a run: its name, default, what is allowed, and the one sentence a wrong value gets."""

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from fedlaw_flwr.attacks import load_attack
from fedlaw_flwr.attacks.plan import AttackPlan
from fedlaw_flwr.layout import BATCH_NORM
from fedlaw_flwr.partition import KINDS, Partition
from fedlaw_flwr.rules import RULES, RuleSettings, check
from fedlaw_flwr.tasks import OWN, TASKS, load_task
from fedlaw_flwr.tasks.choice import INPUTS, Choice, widths_of
from fedlaw_flwr.tasks.device import device as find_device
from fedlaw_flwr.training import LOSS_AT
from fedlaw_flwr.weighting import Schedule, Simplex, byzantine_count

if TYPE_CHECKING:
    from fedlaw_flwr.tasks.base import Task

STRATEGIES = ("fedlaw", *RULES)
"""What `strategy` allows: FedLAW (its BSUM form by `variant`) and every one-exchange rule."""


class SettingsError(ValueError):
    """One or more settings are wrong; the text has a line for each."""


def _not_a_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is expected")
    return value


# TOML tells 2 from 2.0 and true from 1; pydantic's lax mode does not, so numbers are strict and never booleans.
Whole = Annotated[int, Field(strict=True), BeforeValidator(_not_a_bool)]
Real = Annotated[float, BeforeValidator(_not_a_bool), Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True)]


def _one_of(*allowed: str) -> BeforeValidator:
    def check_name(value: Any) -> Any:
        if value in allowed:
            return value
        near = difflib.get_close_matches(str(value), allowed, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"allowed are {', '.join(allowed)}{hint}")

    return BeforeValidator(check_name)


class Settings(BaseModel):
    """The settings of one run, checked together. On the wire and in files their names have hyphens: `num-rounds`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=lambda name: name.replace("_", "-"), populate_by_name=True
    )

    # what is learned, and from what
    task: Annotated[Text, _one_of(*TASKS, OWN)] = "digits"
    data_dir: Text = ""
    download: Flag = False
    train_examples: Annotated[Whole, Field(ge=0)] = 0
    inputs: Annotated[Text, _one_of(*INPUTS)] = "standardised"
    widths: Text = ""
    initial_model: Text = ""
    seed: Annotated[Whole, Field(ge=0, lt=2**63)] = 0
    num_silos: Annotated[Whole, Field(ge=2, le=100_000)] = 20
    partition: Annotated[Text, _one_of(*KINDS)] = "q-groups"
    q: Annotated[Real, Field(ge=0, le=1)] = 0.6
    concentration: Annotated[Real, Field(gt=0)] = 0.5
    # who attacks, and how
    attack: Text = "none"
    byzantine: int | float = 0.2
    byzantine_chosen: Annotated[Text, _one_of("groups", "random")] = "groups"
    knowledge: Annotated[Text, _one_of("colluders", "omniscient")] = "colluders"
    global_parameter: Annotated[Text, _one_of("replaced", "perturbed")] = "replaced"
    lie_over: Annotated[Text, _one_of("updates", "parameters")] = "updates"
    poison_loss: Annotated[Text, _one_of("poisoned", "own")] = "poisoned"
    drills: Text = ""
    # the honest silo
    lr: Annotated[Real, Field(gt=0)] = 0.1
    local_epochs: Annotated[Whole, Field(ge=1)] = 3
    batch_size: Annotated[Whole, Field(ge=1)] = 16
    loss_at: Annotated[Text, _one_of(*LOSS_AT)] = "received"
    device: Annotated[Text, _one_of("auto", "cpu", "cuda")] = "cpu"
    # the server
    strategy: Annotated[Text, _one_of(*STRATEGIES)] = "fedlaw"
    num_rounds: Annotated[Whole, Field(ge=1)] = 20
    max_byzantine: int | float = 0.2
    timeout: Annotated[Real, Field(gt=0)] = 600.0
    wait: Annotated[Real, Field(gt=0)] = 120.0
    quorum: Annotated[Whole, Field(ge=0)] = 0
    loss_floor: str | float = 0.0
    buffers: Text = BATCH_NORM
    run_dir: Text = ""
    # FedLAW
    variant: Annotated[Text, _one_of("fedlaw", "bsum")] = "fedlaw"
    beta: Annotated[Real, Field(gt=0)] = 0.01
    s: Annotated[Whole, Field(ge=0)] = 0
    t: Annotated[Real, Field(ge=0, le=1)] = 0.0
    s_start: Annotated[Whole, Field(ge=0)] = 0
    weight_rounds: Annotated[Whole, Field(ge=-1)] = 20
    refresh_every: Annotated[Whole, Field(ge=0)] = 0
    warm_rounds: Annotated[Whole, Field(ge=0)] = 0
    clip: str | float = "rank"
    loss_filter: Flag = True
    loss_fence: Annotated[Real, Field(ge=0)] = 3.0
    memory: Annotated[Real, Field(ge=0, le=1)] = 0.0
    coalition_distance: Annotated[Real, Field(ge=0, lt=2)] = 0.0
    watch: Flag = False
    thrift: Flag = True
    # the other rules
    krum_m: Annotated[Whole, Field(ge=0)] = 0
    bulyan_pool: Annotated[Whole, Field(ge=0)] = 0
    bulyan_inner: Annotated[Whole, Field(ge=0)] = 0
    bulyan_average: Annotated[Whole, Field(ge=0)] = 0
    cclip_tau: Annotated[Real, Field(gt=0)] = 10.0
    cclip_iterations: Annotated[Whole, Field(ge=1)] = 1
    rfa_nu: Annotated[Real, Field(gt=0)] = 1e-6
    rfa_iterations: Annotated[Whole, Field(ge=1)] = 3
    huber_threshold: Annotated[Real, Field(gt=0)] = 0.2
    bucket_size: Annotated[Whole, Field(ge=1)] = 1
    nnm: Flag = False
    size_cap: Annotated[Whole, Field(ge=0)] = 0
    beyond_guarantee: Flag = False

    @field_validator("data_dir", "initial_model")
    @classmethod
    def _from_here(cls, value: str) -> str:
        """Absolute, since the processes of a run have working directories of their own."""
        return str(Path(value).expanduser().resolve()) if value else ""

    @field_validator("widths")
    @classmethod
    def _whole_numbers(cls, value: str) -> str:
        return ",".join(map(str, widths_of(value)))

    @field_validator("buffers")
    @classmethod
    def _pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from None
        return value

    @field_validator("drills")
    @classmethod
    def _names_and_attacks(cls, value: str) -> str:
        for part in value.split(",") if value else []:
            name, _, attack = part.partition(":")
            if not name or not attack:
                raise ValueError("pairs of a silo's registered name and its attack are expected: bonn:lie,aachen:ipm")
            load_attack(attack)
        return value

    @field_validator("device")
    @classmethod
    def _present(cls, value: str) -> str:
        find_device(value)
        return value

    @field_validator("byzantine", "max_byzantine", mode="before")
    @classmethod
    def _count_or_fraction(cls, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("a count (4) or a fraction of the silos (0.2) is expected")
        if value < 0 or (isinstance(value, float) and not value < 1):
            raise ValueError("a count from 0 up or a fraction in [0, 1) is expected")
        return value

    @field_validator("clip", mode="before")
    @classmethod
    def _clip_rule(cls, value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
        if not number and value not in ("rank", "none", "oracle"):
            raise ValueError("allowed are rank, none, oracle, or a norm above 0 in units of g")
        return value

    @field_validator("loss_floor", mode="before")
    @classmethod
    def _floor(cls, value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
        if not number and value != "none":
            raise ValueError("a finite number is expected, the least loss that is believed, or none")
        return value

    @model_validator(mode="after")
    def _hold_together(self) -> "Settings":
        if self.strategy == "fedlaw":
            if self.size_cap:
                raise ValueError(f"size-cap={self.size_cap}: FedLAW learns its weights; only fedavg weighs by size")
            simplex = Simplex.for_federation(self.num_silos, self.max_byzantine, self.s, self.t)
            if self.s_start and not simplex.s <= self.s_start <= self.num_silos:
                allowed = (
                    f"with num-silos={self.num_silos} and s={simplex.s}, {simplex.s} to {self.num_silos} are allowed"
                )
                raise ValueError(f"s-start={self.s_start}: {allowed}; 0 is off")
            if self.s_start and self.weight_rounds - self.warm_rounds < 2:
                raise ValueError(
                    f"s-start={self.s_start}, weight-rounds={self.weight_rounds}: s is lowered over the weight rounds, "
                    "2 or more"
                )
        else:
            try:
                check(self.strategy, self.num_silos, self.rule_settings())
            except ValueError as error:
                raise ValueError(_in_our_names(error)) from None
        if self.memory and self.variant == "bsum":
            raise ValueError(
                f"memory={self.memory}: variant='bsum' goes by the losses of one round alone; leave memory at 0"
            )
        try:
            Schedule(self.weight_rounds, self.refresh_every, self.warm_rounds)
        except ValueError as error:
            raise ValueError(_in_our_names(error)) from None
        if self.weight_rounds == 0 and self.refresh_every == 0 and self.strategy == "fedlaw":
            raise ValueError(
                'weight-rounds=0 and refresh-every=0: no weight is ever learned; that is strategy="fedavg"'
            )
        if (self.task == OWN) != bool(self.initial_model):
            raise ValueError(
                f"task={self.task!r} and initial-model={self.initial_model!r}: the task 'own' begins from the file "
                "that initial-model names, and no other task does"
            )
        if self.initial_model and not Path(self.initial_model).is_file():
            raise ValueError(f"initial-model={self.initial_model!r}: there is no such file")
        if self.task == OWN and self.attack != "none":
            raise ValueError(f"attack={self.attack!r}: a run never makes real silos attack; task='own' allows none")
        for attack in set(self.attack_plan().attacks.values()):
            if load_attack(attack).needs_images and not TASKS[self.task].is_image:
                images = ", ".join(name for name, entry in TASKS.items() if entry.is_image)
                raise ValueError(f"attack={attack!r} needs a task with images ({images}), task={self.task!r} has none")
        self.partition_plan()
        if self.quorum > self.num_silos:
            raise ValueError(f"quorum={self.quorum}: more than the num-silos={self.num_silos} there are")
        if self.task != OWN:
            TASKS[self.task].check_widths(widths_of(self.widths))
        if self.task != OWN and TASKS[self.task].needs_files and not self.data_dir:
            raise ValueError(f"task={self.task!r} needs data-dir, the folder torchvision keeps its files in")
        if self.data_dir and not Path(self.data_dir).is_dir():
            raise ValueError(f"data-dir={self.data_dir!r}: there is no such folder")
        return self

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Settings":
        """Settings from run-config names and values. Raises SettingsError, a line for each that is wrong."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise SettingsError("\n".join(_sentence(found) for found in error.errors())) from None

    def as_config(self) -> dict[str, Any]:
        """The settings under their hyphenated names, as `read` takes them."""
        return self.model_dump(by_alias=True)

    def rule_settings(self) -> RuleSettings:
        """The numbers of the one-exchange rules, 0 meaning the rule's own. ValueError for a wrong max-byzantine."""
        return RuleSettings(
            f=byzantine_count(self.max_byzantine, self.num_silos),
            krum_m=self.krum_m or None,
            bulyan_pool=self.bulyan_pool or None,
            bulyan_inner=self.bulyan_inner or None,
            bulyan_average=self.bulyan_average or None,
            cclip_tau=self.cclip_tau,
            cclip_iterations=self.cclip_iterations,
            rfa_nu=self.rfa_nu,
            rfa_iterations=self.rfa_iterations,
            huber_threshold=self.huber_threshold,
            bucket_size=self.bucket_size,
            nnm=self.nnm,
            size_cap=self.size_cap,
            beyond_guarantee=self.beyond_guarantee,
            seed=self.seed,
        )

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
        """Which silo runs which attack; raises ValueError for an attack there is not."""
        return AttackPlan.read(
            self.attack, self.byzantine, self.num_silos, self.byzantine_chosen, self.seed, self.num_labels
        )

    def known_attacks(self) -> dict[str, str]:
        """Who attacks and how, by the silo's name: the simulation's attackers, and a deployment's drills."""
        drills = dict(part.split(":", 1) for part in self.drills.split(",") if part)
        return {**{f"silo {silo}": attack for silo, attack in sorted(self.attack_plan().attacks.items())}, **drills}


def parsed(pairs: Sequence[str]) -> dict[str, Any]:
    """name=value arguments as settings, the value as TOML where it is TOML, else as the text it is."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r}: a setting is written name=value")
        try:
            values[name.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[name.strip()] = text
    return values


def _sentence(found: Mapping[str, Any]) -> str:
    """One of pydantic's findings as `name=value: what is allowed`."""
    what = str(found["msg"]).removeprefix("Value error, ")
    if not found["loc"]:
        return what
    name = str(found["loc"][0]).replace("_", "-")
    if found["type"] == "extra_forbidden":
        names = [field.replace("_", "-") for field in Settings.model_fields]
        near = difflib.get_close_matches(name, names, n=1)
        return f"{name}: there is no such setting{f'; did you mean {near[0]!r}?' if near else ''}"
    return f"{name}={found['input']!r}: {what[0].lower()}{what[1:]}"


def _in_our_names(error: ValueError) -> str:
    """What a rule or a schedule, whose names are Python's, says of a setting: warm_rounds=4 is warm-rounds=4 here."""
    return re.sub(r"\b[a-z]+(?:_[a-z]+)+(?==)", lambda name: name[0].replace("_", "-"), str(error))
