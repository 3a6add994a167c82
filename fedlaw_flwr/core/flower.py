"""Which releases of Flower this package is tested with. What differs between them belongs here; nothing does so far.

From 1.41 to 1.42 Flower changed its agents, its tracing and its database. This package uses none of these parts.
"""

TESTED = ("1.41", "1.42")
"""The releases that the tests run on, by their first two numbers: the oldest and the newest that pip may install."""

REQUIREMENT = "flwr>=1.41.0,<1.43"
"""The same as a requirement, for the pyproject.toml of an app. 1.41 is the first release with one port for all."""
