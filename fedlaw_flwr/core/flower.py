"""Which releases of Flower this package is tested with. What differs between them belongs here; nothing does so far.

With 1.42 the tests of strategy, protocol and simulation passed. Its deployed parts are untested here, so it is not
accepted yet.
"""

TESTED = ("1.41",)
"""The releases that the tests run on, by their first two numbers: the oldest and the newest that pip may install."""

REQUIREMENT = "flwr>=1.41.0,<1.42"
"""The same as a requirement, for the pyproject.toml of an app. 1.41 is the first release with one port for all."""
