"""The two reference pages that are made from the code: in step, and nothing is missing."""

import re
from pathlib import Path

import pytest

from fedlaw_flwr.attacks import ATTACKS
from fedlaw_flwr.cli.reference import ATTACKS_AND_RULES, COMMANDS, attacks_and_rules_page, commands_page
from fedlaw_flwr.learners import LEARNERS
from fedlaw_flwr.rules import PRE_AGGREGATIONS, RULES
from fedlaw_flwr.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("path", "page"), [(COMMANDS, commands_page), (ATTACKS_AND_RULES, attacks_and_rules_page)])
def test_the_committed_page_is_the_one_made_from_the_code(path, page):
    assert (ROOT / path).read_text(encoding="utf-8") == page(), "python -m fedlaw_flwr.cli.reference"


def test_the_page_of_attacks_and_rules_has_a_row_for_every_name_there_is():
    rows = re.findall(r"^\| `(\w+)` \| \S", attacks_and_rules_page(), re.MULTILINE)
    assert rows == ["fedlaw", *RULES, *PRE_AGGREGATIONS, *LEARNERS, *ATTACKS, *TASKS]


def test_the_page_of_commands_has_a_section_for_a_command_of_each_depth_with_its_arguments_and_options():
    page = commands_page()
    for command in ("fedlaw run", "fedlaw deploy init", "fedlaw deploy containers backup"):
        assert f"\n## `{command}`\n" in page
    section = page.partition("\n## `fedlaw schema agree`\n")[2].partition("\n## ")[0]
    assert "| `--max-byzantine MAX-BYZANTINE` | needed | How many of these silos may lie, at most. |" in section
    assert "fedlaw schema agree [OPTIONS] --max-byzantine MAX-BYZANTINE " in section
