"""The pages of docs/: what they show of the code is what the code says."""

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SHOWN = [
    (page.name, path, code)
    for page in sorted((CHECKOUT / "docs").rglob("*.md"))
    for path, code in re.findall(r'^```python title="(.+?)"\n(.*?)^```', page.read_text(encoding="utf-8"), re.M | re.S)
]


def test_the_guides_show_whole_files():
    assert {page for page, _, _ in SHOWN} >= {
        "add-a-rule.md",
        "add-an-attack.md",
        "add-a-task.md",
        "add-a-weight-learner.md",
    }


@pytest.mark.parametrize(("page", "path", "code"), SHOWN, ids=[f"{page}, {path}" for page, path, _ in SHOWN])
def test_a_file_that_a_page_shows_is_shown_as_it_is(page, path, code):
    assert code == (CHECKOUT / path).read_text(encoding="utf-8")
