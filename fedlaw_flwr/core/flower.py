"""Which releases of Flower this package is tested with, and which is installed. What differs between them belongs here.

Nothing does so far: from 1.41 to 1.42 Flower changed its agents, its tracing and its database, which this package does
not use.
"""

from importlib.metadata import version

TESTED = ("1.41", "1.42")
"""The releases that the tests run on, by their first two numbers: the oldest and the newest that pip may install."""

REQUIREMENT = "flwr>=1.41.0,<1.43"
"""The same as a requirement, for the pyproject.toml of an app. 1.41 is the first release with one port for all."""


def installed() -> str:
    """The whole version of the Flower installed here, such as 1.42.0."""
    return version("flwr")


def release_of(number: str) -> str:
    """The first two numbers of a version, such as 1.42: two ends of a federation must agree in them."""
    return ".".join(number.split(".")[:2])
