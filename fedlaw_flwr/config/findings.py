"""Checks made in an order, each only where what it needs was found right; their findings, one line each."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from fedlaw_flwr.core.findings import Finding, note, ok, wrong

__all__ = ["Finding", "Named", "in_order", "note", "ok", "wrong"]


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
    """Makes every check whose needs are met.

    Args:
        checks: The checks, in the order in which they are made.
        made: The findings of one check.

    Yields:
        The findings, as they are made, and at the end which checks were not made.
    """
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
