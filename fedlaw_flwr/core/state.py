"""What the server must still know after it was killed: how each of its parts says so, and takes it back.

A part that lives on from round to round has two methods, `state()` and `restore(state)`, and stands in one line of the
strategy that owns it (`MatrixStrategy._parts`). A checkpoint is what all parts say, and nothing else. Silos are named
by `Roster.key`, never by Flower's node id, which is another in every simulation. Random numbers need no state: every
stream is made anew from the seed and the round (`core.seeding`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedlaw_flwr.core.errors import InputError

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class State:
    """What one part knows.

    Attributes:
        values: Names and JSON's types: numbers, texts, true and false, None, lists, and objects whose names are texts.
            Floats come back bit by bit; a tuple comes back as a list. Default: nothing.
        arrays: Names and NumPy arrays of numbers or truth values. Default: none.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)

    def split(self, *parts: str) -> "tuple[State, State]":
        """Of what `gathered` made, what belongs to these parts, and the rest."""
        starts = tuple(f"{part}." for part in parts)
        own, rest = State({}, {}), State({}, {})
        for name, value in self.values.items():
            (own if name in parts else rest).values[name] = value  # type: ignore[index]
        for name, array in self.arrays.items():
            (own if name.startswith(starts) else rest).arrays[name] = array  # type: ignore[index]
        return own, rest


class Stateful(Protocol):
    """A part of the server that lives on from round to round."""

    def state(self) -> State:
        """What it knows now. What is handed out is not changed afterwards."""
        ...

    def restore(self, state: State) -> None:
        """Knows this again, in place of what it knows now."""
        ...


@dataclass(frozen=True)
class Part:
    """A part whose two methods are somebody's under other names.

    Attributes:
        state: As in `Stateful`.
        restore: As in `Stateful`.
    """

    state: Callable[[], State]
    restore: Callable[[State], None]


def gathered(parts: Mapping[str, Stateful]) -> State:
    """The states of several parts as one.

    Args:
        parts: The parts by name; names have no dot.
    """
    states = {name: part.state() for name, part in parts.items()}
    return State(
        {name: dict(one.values) for name, one in states.items()},
        {f"{name}.{key}": array for name, one in states.items() for key, array in one.arrays.items()},
    )


def restore_all(parts: Mapping[str, Stateful], state: State) -> None:
    """Gives every part its own of what `gathered` made.

    Args:
        parts: The parts by name.
        state: What `gathered` made of parts with the same names.

    Raises:
        InputError: If the names differ: the state is of a server that is made of other parts. Nothing is restored then.
    """
    if parts.keys() != state.values.keys():
        missing, unknown = sorted(parts.keys() - state.values.keys()), sorted(state.values.keys() - parts.keys())
        raise InputError(
            "the state is of a server made of other parts: "
            + "; ".join([f"{name} is missing" for name in missing] + [f"{name} is not known here" for name in unknown])
        )
    for name, part in parts.items():
        start = f"{name}."
        own = {key.removeprefix(start): array for key, array in state.arrays.items() if key.startswith(start)}
        part.restore(State(state.values[name], own))
