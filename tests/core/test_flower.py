"""The releases of Flower that are tested: said once, the same in every pyproject.toml and in CI."""

import re
import tomllib
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from fedlaw_flwr.apps.shipped.package import package_files
from fedlaw_flwr.core.flower import REQUIREMENT, TESTED

CHECKOUT = Path(__file__).parents[2]
PROJECTS = {
    path: (CHECKOUT / path).read_text(encoding="utf-8")
    for path in ("pyproject.toml", "examples/drop_in/pyproject.toml")
} | {"the shipped app": package_files()["pyproject.toml"].decode()}


def test_the_installed_release_is_one_that_is_tested():
    assert ".".join(version("flwr").split(".")[:2]) in TESTED


@pytest.mark.parametrize("project", PROJECTS)
def test_every_project_asks_for_the_releases_that_are_tested(project):
    asked = tomllib.loads(PROJECTS[project])["project"]
    everything = [*asked["dependencies"], *chain(*asked.get("optional-dependencies", {}).values())]
    found = [one for one in map(Requirement, everything) if one.name == "flwr"]
    assert found and {str(one.specifier) for one in found} == {str(Requirement(REQUIREMENT).specifier)}


def test_the_requirement_allows_the_tested_releases_and_no_others():
    specifier = Requirement(REQUIREMENT).specifier
    assert [minor for minor in range(30, 60) if specifier.contains(f"1.{minor}.0")] == [
        int(release.partition(".")[2]) for release in TESTED
    ]


def test_make_installs_the_oldest_and_ci_runs_the_tests_on_the_newest_too():
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    asked = Requirement(re.search(r"^FLOWER \?= (.*)$", makefile, re.M)[1]).specifier
    assert [release for release in TESTED if asked.contains(f"{release}.0")] == [TESTED[0]]
    jobs = (CHECKOUT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert re.search(rf"flwr\[simulation\]=={re.escape(TESTED[-1])}\.\*", jobs)
