"""A setting defined once: name, type, default, what is allowed, unit and one line of help; and how a value is checked.

Settings are fields of dataclasses. `FedLAW(...)`, `fedlaw run name=value`, `--run-config`, the block in pyproject.toml
and the reference page are all made from these fields.
"""

import dataclasses
import difflib
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from fedlaw_flwr.core.errors import InputError

_T = TypeVar("_T")
_KEY = "setting"
_NOUNS = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}


@dataclass(frozen=True)
class Setting:
    """One setting as a dataclass field defines it.

    Attributes:
        name: The Python name, `weight_rounds`; in files and on the command line it has hyphens, `weight-rounds`.
        types: The types a value may have.
        default: The value where nothing is said.
        help: One line: what the setting does.
        unit: The unit of a number, such as "seconds"; empty where it has none.
        allowed: What is allowed, in words.
        choices: The texts allowed; empty where any is.
        formerly: The name this setting had in the release before; empty where it had none.
        group: The heading under which the reference page lists it.
    """

    name: str
    types: tuple[type, ...]
    default: Any
    help: str
    unit: str
    allowed: str
    choices: tuple[str, ...]
    formerly: str
    group: str
    _bounds: tuple[tuple[str, Callable[[Any], bool]], ...]
    _check: Callable[[Any], Any] | None

    @property
    def wire_name(self) -> str:
        """The name in files, on the command line and in `--run-config`."""
        return self.name.replace("_", "-")

    def checked(self, value: Any) -> Any:
        """The value, an integer made a float where a float is expected.

        Raises:
            ValueError: If the value is not allowed; the text says what is.
        """
        value = self._typed(value)
        if isinstance(value, str) and self.choices and value not in self.choices:
            raise InputError(f"allowed are {self.allowed}{did_you_mean(value, self.choices)}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            for words, holds in self._bounds:
                if not holds(value):
                    raise InputError(f"it should be {words}")
        return value if self._check is None else self._check(value)

    def _typed(self, value: Any) -> Any:
        if value is None and NoneType in self.types:
            return value
        expected = tuple(kind for kind in self.types if kind is not NoneType)
        if hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0:
            value = value.item()  # a NumPy number
        if isinstance(value, bool) and bool not in expected:
            if str in expected:
                raise InputError(f"{_either(expected)} is expected, not true or false{_how_to_write(value, expected)}")
            raise InputError("a number is expected")
        if isinstance(value, float) and float in expected and not math.isfinite(value):
            raise InputError(self._expected("a finite number"))
        if isinstance(value, int) and not isinstance(value, bool) and float in expected and int not in expected:
            return float(value)
        if not isinstance(value, expected):
            how = "" if self.choices and str(value) not in self.choices else _how_to_write(value, expected)
            raise InputError(f"{self._expected(_either(expected))}{how}")
        return value

    def _expected(self, noun: str) -> str:
        """What is expected in place of a value of another type."""
        if self.choices:
            return f"allowed are {self.allowed}"
        return f"{self.allowed if set(self.types) == {int, float} else noun} is expected"


def setting(
    default: Any,
    help: str,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    allowed: str = "",
    unit: str = "",
    check: Callable[[Any], Any] | None = None,
    formerly: str = "",
) -> Any:
    """A dataclass field that is a setting.

    Args:
        default: The default value.
        help: One line: what the setting does.
        above: Numbers must be greater than this.
        least: Numbers must be greater than or equal to this.
        below: Numbers must be less than this.
        most: Numbers must be less than or equal to this.
        choices: The texts allowed, where only some are.
        allowed: What is allowed, in words, where bounds and choices do not say it.
        unit: The unit of a number.
        check: Called with a value that passed; returns the value to keep, raises ValueError if it is not allowed.
        formerly: The setting's name in the release before, taken for one release more, with a warning.
    """
    bounds: list[tuple[str, Callable[[Any], bool]]] = []
    for limit, words, holds in (
        (above, "greater than", lambda value, at: value > at),
        (least, "greater than or equal to", lambda value, at: value >= at),
        (below, "less than", lambda value, at: value < at),
        (most, "less than or equal to", lambda value, at: value <= at),
    ):
        if limit is not None:
            bounds.append((f"{words} {limit:g}" if limit < 1e6 else f"{words} {limit}", _bound(holds, limit)))
    stated = allowed or ", ".join(choices) or " and ".join(words for words, _ in bounds)
    return field(default=default, metadata={_KEY: (help, unit, stated, choices, formerly, tuple(bounds), check)})


def count_or_fraction(value: Any) -> Any:
    """The value, a count of silos (int) or a fraction of them (float).

    Raises:
        ValueError: For a negative number, or a float of 1 or more.
    """
    if value < 0 or (isinstance(value, float) and not value < 1):
        raise InputError("a count from 0 up or a fraction in [0, 1) is expected")
    return value


def settings_of(owner: type) -> dict[str, Setting]:
    """The settings of a dataclass by Python name, in the order of its fields; other fields are left out."""
    if owner in _KNOWN:
        return _KNOWN[owner]
    hints = get_type_hints(owner)
    found = {}
    for one in dataclasses.fields(owner):
        if _KEY in one.metadata:
            help, unit, allowed, choices, formerly, bounds, check = one.metadata[_KEY]
            types = _types(hints[one.name])
            group = next(
                c.__doc__ or "" for c in reversed(owner.__mro__) if one.name in getattr(c, "__annotations__", {})
            )
            assert one.default is not MISSING
            found[one.name] = Setting(
                one.name,
                types,
                one.default,
                help,
                unit,
                allowed,
                choices,
                formerly,
                group.splitlines()[0],
                bounds,
                check,
            )
    _KNOWN[owner] = found
    return found


_KNOWN: dict[type, dict[str, Setting]] = {}  # made once a class


def check_settings(instance: Any) -> None:
    """Checks every setting of a dataclass instance and keeps the checked values; for `__post_init__`.

    Raises:
        ValueError: For the first value that is not allowed: `beta=0: it should be greater than 0`.
    """
    for name, one in settings_of(type(instance)).items():
        value = getattr(instance, name)
        try:
            object.__setattr__(instance, name, one.checked(value))
        except ValueError as error:
            raise InputError(f"{name}={value!r}: {error}") from None


def wrong_values(owner: type, values: Mapping[str, Any], given: Mapping[str, str]) -> Iterator[str]:
    """A line for each of these values, by Python name, that is not allowed.

    Args:
        owner: The dataclass whose settings they are.
        values: The values by Python name.
        given: The name under which a person gave a value, where it is not the setting's own.
    """
    for name, one in settings_of(owner).items():
        if name in values:
            try:
                one.checked(values[name])
            except ValueError as error:
                yield f"{given.get(name, one.wire_name)}={values[name]!r}: {error}"


def arguments(owner: type) -> str:
    """The `Args:` section of a class whose constructor takes these settings, Google's style."""
    lines = ["Args:"]
    for one in settings_of(owner).values():
        allowed = f" Allowed: {one.allowed}." if one.allowed else ""
        unit = f" Unit: {one.unit}." if one.unit else ""
        lines.append(f"    {one.name}: {_sentence(one.help)}{allowed}{unit} Default: {one.default!r}.")
    return "\n".join(lines)


def _sentence(help: str) -> str:
    """The help as a sentence; a symbol such as b stays small."""
    return f"{help[0].upper()}{help[1:]}." if help[1:2].isalpha() else f"{help}."


def documented(owner: type[_T]) -> type[_T]:
    """A class decorator: puts `arguments` where the docstring says `{arguments}`, after `@dataclass`."""
    owner.__doc__ = inspect.cleandoc(owner.__doc__ or "").replace("{arguments}", arguments(owner))
    return owner


def did_you_mean(name: str, names: "tuple[str, ...] | list[str]") -> str:
    """`; did you mean 'beta'?` where one of the names is close to this one, else nothing."""
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _how_to_write(value: Any, expected: tuple[type, ...]) -> str:
    """How a value of another type is written as one of these: `; as text write '"32"'`; empty where that is not clear.

    The outer quotes are for the shell, which takes them away; Flower's --run-config and TOML want the inner ones.
    """
    if expected == (str,):
        if isinstance(value, bool):
            return f"; as text write '\"{str(value).lower()}\"'"
        if isinstance(value, list | tuple):
            return f"; as text write '\"{','.join(str(one) for one in value)}\"'"
        return "" if isinstance(value, Mapping) else f"; as text write '\"{value}\"'"
    if expected == (bool,):
        meant = _MEANT.get(str(value).strip().lower())
        return f"; write {meant}" if meant else ""
    number = _number(value) if isinstance(value, str | float) else None
    if number is None or (float not in expected and number != int(number)):
        return ""
    return f"; write {int(number) if number == int(number) and int in expected else number!r}"


_MEANT = {
    **dict.fromkeys(("true", "yes", "y", "on", "1", "1.0"), "true"),
    **dict.fromkeys(("false", "no", "n", "off", "0", "0.0"), "false"),
}


def _number(value: str | float) -> float | None:
    """The number a person means by a text such as 20%, 0,5, 007 or 1 000; None for what is none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    text = re.sub(r"[\s_']", "", value)
    found = re.fullmatch(r"([+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?)(%?)", text)
    if not found or re.search(r",\d{3}$", found[1]):  # 1,000 may be one or a thousand
        return None
    number = float(found[1].replace(",", "."))
    number = float(f"{number / 100:.12g}") if found[2] else number
    return number if math.isfinite(number) else None


def _bound(holds: Callable[[Any, float], bool], limit: float) -> Callable[[Any], bool]:
    return lambda value: holds(value, limit)


def _types(hint: Any) -> tuple[type, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _either(types: tuple[type, ...]) -> str:
    if set(types) == {int, float}:
        return "a number"
    return " or ".join(_NOUNS[kind] for kind in types if kind in _NOUNS)
