"""The page of trouble reports: every report is linked with its own number, and every test it names is there."""

import ast
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (CHECKOUT / "docs" / "research" / "field-reports.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| report"))
]


def test_there_are_reports():
    assert len(ROWS) >= 20


@pytest.mark.parametrize("row", ROWS, ids=[row[0].split(" [")[0] for row in ROWS])
def test_a_report_has_its_number_and_a_test_that_is_there(row):
    report, there, here, test = row
    links = re.findall(r"\[#([0-9]+)\]\(https://github\.com/[\w.-]+/[\w.-]+/(?:issues|pull)/([0-9]+)\)", report)
    assert links and len(links) == report.count("](") and all(said == number for said, number in links)
    assert there and here
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", test)
    assert named and len(named) == test.count("::")
    for path, name in named:
        tree = ast.parse((CHECKOUT / path).read_text(encoding="utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, (path, name)
