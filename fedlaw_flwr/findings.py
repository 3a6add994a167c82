"""What a look at a task, a client or a federation found: one line, whether it is right, and what to do if it is not."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar


@dataclass(frozen=True)
class Finding:
    """kind: "ok", "wrong" or "note"; what was found and what to do about it; the name of the check."""

    kind: str
    what: str
    check: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is nothing to do and nothing to decide."""
        return self.kind == "ok"


def ok(what: str) -> Finding:
    """What is as it must be."""
    return Finding("ok", what)


def wrong(what: str) -> Finding:
    """What must be mended before the silo can take part."""
    return Finding("wrong", what)


def note(what: str) -> Finding:
    """What is left open and a person should know."""
    return Finding("note", what)


class Named(Protocol):
    """A check as `in_order` sees it."""

    @property
    def name(self) -> str:
        """What its findings are filed under."""
        ...

    @property
    def needs(self) -> Sequence[str]:
        """The checks that must have found nothing wrong, since it would only repeat what they said."""
        ...


_C = TypeVar("_C", bound=Named)


def in_order(checks: Iterable[_C], made: Callable[[_C], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of every check whose needs are met, as they are made; at the end, which checks were not made."""
    failed, left = set[str](), list[str]()
    for check in checks:
        if failed.intersection(check.needs):
            failed.add(check.name)
            left.append(check.name)
            continue
        for finding in made(check):
            if finding.kind == "wrong":
                failed.add(check.name)
            yield replace(finding, check=check.name)
    if left:
        yield note(f"not looked at until that is mended: {', '.join(left)}")
