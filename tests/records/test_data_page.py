"""What docs say about an institution's data is what the code does: options, endings, spellings, thresholds."""

import datetime as dt
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedlaw_flwr.records.cells import Records
from fedlaw_flwr.records.options import names
from fedlaw_flwr.records.schema import Categorical, Numeric, Schema, Target
from fedlaw_flwr.records.spelling import spell
from fedlaw_flwr.records.suspicions import look
from fedlaw_flwr.records.tabular import TabularOptions

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "reference" / "data.md"
TEXT = PAGE.read_text(encoding="utf-8")


def section(title):
    return re.split(r"\n##+ ", TEXT.split(f" {title}\n", 1)[1])[0]


def first_cells(table):
    """The names in the first column of a table."""
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall("`(.*?)`", row)}


def test_every_option_of_a_file_is_in_its_table_and_no_other():
    assert first_cells(section("A file")) == set(names(TabularOptions))


def test_every_option_of_an_image_folder_is_in_its_table_and_every_ending_is_named():
    pytest.importorskip("torchvision")
    from fedlaw_flwr.records.image_files import SUFFIXES
    from fedlaw_flwr.records.image_folder import ImageOptions

    assert first_cells(section("Images")) == set(names(ImageOptions))
    (read,) = re.findall(r"\*\*Read\*\*.*?in capitals", section("Images"), re.DOTALL)
    assert set(re.findall(r"\.[a-z]+", read)) == set(SUFFIXES)


@pytest.mark.parametrize(
    ("cell", "spelled"),
    [
        (np.float64(1), "1"),
        (Decimal("1.00"), "1"),
        (Decimal("2.50"), "2.5"),
        (np.float32(0.1), "0.1"),
        (True, "true"),
        ("TRUE", "true"),
        (dt.date(2024, 1, 31), "2024-01-31"),
        (pd.Timestamp("2024-01-31"), "2024-01-31"),
        ("2024-01-31T10:30", "2024-01-31 10:30:00"),
        ("2024-01-31 10:30:00.000", "2024-01-31 10:30:00"),
        (pd.Timestamp("2024-01-31 10:30", tz="Europe/Berlin"), "2024-01-31 09:30:00+00:00"),
        (pd.NaT, None),
        (float("nan"), None),
    ],
)
def test_each_spelling_is_the_tables(cell, spelled):
    assert spell(cell) == spelled
    assert spelled is None or f"`{spelled}`" in section("What a cell means")


SCHEMA = Schema(
    target=Target(column="y", classes=("a", "b")),
    numeric=(Numeric(column="age", center=60, scale=10, missing="center"),),
    categorical=(Categorical(column="c", values=("p", "q"), unseen="other", missing="slot"),),
)


def kinds(ages, cells):
    frame = pd.DataFrame({"age": ages, "c": cells, "y": "a"})
    return [suspicion.kind for suspicion in look(SCHEMA, Records("a table", frame))]


@pytest.mark.parametrize(
    ("ages", "cells", "found"),
    [
        (range(50, 70), ["p"] * 19 + ["q"], []),
        (range(50, 70), ["p"] * 20, ["constant"]),
        (range(50, 69), ["p"] * 19, []),
        (range(50, 70), ["p", "q", "x", "y"] * 5, []),
        (range(50, 70), ["p", "q"] * 4 + ["p", "z"] + ["x", "y"] * 5, ["other"]),
        (range(50, 70), ["p", "q"] * 5 + [None] * 10, []),
        (range(50, 70), ["p", "q"] * 4 + ["q"] + [None] * 11, ["missing"]),
        ([60] * 19 + [61], ["p", "q"] * 10, ["constant"]),
        ([60] * 18 + [61, 62], ["p", "q"] * 10, []),
        ([None] * 11 + [60, 61, 62] * 3, ["p", "q"] * 10, ["missing"]),
    ],
)
def test_a_column_is_told_beyond_the_shares_the_page_names(ages, cells, found):
    assert kinds(list(ages), cells) == found
    said = section("What is said of odd columns")
    assert "more than half" in said and "at least 20" in said and "95 %" in said
