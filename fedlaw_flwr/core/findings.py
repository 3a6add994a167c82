"""What a look at a model, a task, a client or a federation found: one line, whether it is right, and what to do."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        kind: "ok", "wrong" or "note".
        what: What was found and what to do about it.
        check: The name of the check. Default: "".
    """

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
