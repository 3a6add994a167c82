"""What people report of other tools about tables and pictures (docs/research/field-reports.md), tried here."""

import sqlite3

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from fedlaw_flwr.records.cells import Records
from fedlaw_flwr.records.draft import draft
from fedlaw_flwr.records.files import read_file
from fedlaw_flwr.records.sql import QueryOptions
from fedlaw_flwr.records.task import load_silo_task

CODES = """\
target: {{column: y, classes: ["0", "1"]}}
categorical:
- {{column: c, values: [{values}], unseen: {unseen}, missing: slot}}
test-share: {share}
"""


@pytest.fixture
def silo(tmp_path):
    """Writes a silo's CSV of a column c and a class y, and makes its task: one input for each value of c."""

    def make(text, values, unseen="refuse", share=0.0, name="rows.csv", **options):
        (tmp_path / "schema.yaml").write_text(CODES.format(values=values, unseen=unseen, share=share))
        if text is not None:
            (tmp_path / name).write_bytes(text.encode())
        return load_silo_task("tabular", str(tmp_path / name), {"schema": "schema.yaml", **options})

    return make


def inputs(task):
    return sorted(map(tuple, task.load_train().inputs.tolist()))


# -- codes ------------------------------------------------------------------------------------------------------------


def test_the_code_of_namibia_is_a_value_until_somebody_says_that_it_is_none(silo):
    text = "c,y\nNA,0\nDE,1\n,1\n"
    assert inputs(silo(text, '"NA", "DE"')) == [(0, 0, 1), (0, 1, 0), (1, 0, 0)]
    assert inputs(silo(text, '"NA", "DE"', missing="NA")) == [(0, 0, 1), (0, 0, 1), (1, 0, 0)]


def test_postcodes_keep_their_leading_zeros_and_one_that_lost_them_is_told_with_the_agreed_one(silo):
    assert inputs(silo("c,y\n01067,0\n1067,1\n", '"01067", "1067"')) == [(0, 1, 0), (1, 0, 0)]
    with pytest.raises(ValueError, match=r"'1067' \(first in row 1\).*'1067' looks like '01067' \(the same number\)"):
        silo("c,y\n1067,0\n99999,1\n", '"01067", "99999"')


@pytest.mark.parametrize("cell", ["4.69E+17", "4,687E+11", "1E+12"])
def test_a_code_that_a_spreadsheet_rounded_is_told_by_check_and_left_out_of_a_draft(cell, silo):
    written = f'"{cell}"'
    task = silo(f"c,y\n{written},0\n{written},1\nb,1\n", f'{written}, "b"')
    (said,) = task.suspicions()
    assert f"column 'c': in '{cell}' a spreadsheet dropped digits, and different codes became one" in said
    assert task.alarms == ("column 'c' holds long codes that lost digits",)
    frame = pd.DataFrame({"c": [cell, "7.1E+17"] * 20, "age": [*range(20, 40)] * 2, "y": ["a", "b"] * 20})
    found = draft(Records("clinic.csv", frame.astype(object)), "y")
    assert [column.column for column in found.schema.columns] == ["age"]
    assert any(
        "column 'c' is left out: in '" in note and "a spreadsheet dropped digits" in note for note in found.notes
    )


@pytest.mark.parametrize("cells", [["1E5", "2E7"], ["1.23E+05", "4.5E+06"], ["1.234567890123E+12", "B12"]])
def test_wells_of_a_plate_and_numbers_with_all_their_digits_are_not_called_rounded(cells, silo):
    task = silo(f"c,y\n{cells[0]},0\n{cells[1]},1\n", ", ".join(f'"{cell}"' for cell in cells))
    assert task.suspicions() == []


@pytest.mark.parametrize("day", ["03/04/2024", "31/12/2014", "12/31/2014"])
def test_a_day_whose_order_nobody_can_know_is_refused_and_never_turned(day, silo):
    with pytest.raises(ValueError, match=rf"column 'c' has '{day}' \(first in row 1\), allowed are") as found:
        silo(f"c,y\n{day},0\n2024-04-03,1\n", '"2024-04-03", "2024-03-04", "2014-12-31"')
    assert "looks like" not in str(found.value)


def test_labels_from_1_are_refused_with_the_labels_agreed(silo):
    with pytest.raises(ValueError, match=r"column 'y' has '2' \(first in row 2\), allowed are 0, 1"):
        silo("c,y\na,1\nb,2\n", "a, b")


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["c,c,y", "c,c.1,c,y", '"c"," c",y', "0,-0.1,0,0.1"])
def test_two_columns_of_one_name_are_refused_and_none_is_renamed(header, tmp_path):
    row = ",".join("1" * len(header.split(",")))
    (tmp_path / "rows.csv").write_text(f"{header}\n{row}\n")
    with pytest.raises(
        ValueError, match=r"column '[c0]' is there twice(, written in ways that look alike)?; rename one of them"
    ):
        Records("rows.csv", read_file(tmp_path / "rows.csv"))


@pytest.mark.parametrize("end", ["\r", "\n"])
def test_lines_may_end_as_on_old_macs_and_one_within_a_cell_is_no_hang_and_no_new_row(end, tmp_path):
    (tmp_path / "rows.csv").write_bytes(end.join(["c,y", "a,0", "b,1", ""]).encode())
    assert list(Records("", read_file(tmp_path / "rows.csv")).texts("c")) == ["a", "b"]
    (tmp_path / "rows.csv").write_bytes(b"c,y\na,0\nsmoked\r until 1990,1\nb,1\n")
    with pytest.raises(ValueError, match=r"row 2 has 1 cells, the header has 2 \(line 3\)"):
        read_file(tmp_path / "rows.csv")


def test_a_parquet_column_of_categories_is_its_values_and_not_their_numbers(silo, tmp_path):
    table = pa.table({"c": pa.array(["a", "b", None, "a"]).dictionary_encode(), "y": pa.array([0, 1, 0, 1])})
    parquet.write_table(table, tmp_path / "texts.parquet")
    assert inputs(silo(None, "a, b", name="texts.parquet")) == [(0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 0, 0)]
    frame = pd.DataFrame({"c": pd.Categorical([20, 10, None, 20], categories=[20, 10]), "y": [0, 1, 0, 1]})
    frame.to_parquet(tmp_path / "numbers.parquet")
    assert inputs(silo(None, '"10", "20"', name="numbers.parquet")) == [(0, 0, 1), (0, 1, 0), (0, 1, 0), (1, 0, 0)]


def test_decimals_that_sqlite_keeps_as_text_or_as_numbers_are_the_same_numbers(tmp_path):
    connection = sqlite3.connect(tmp_path / "rows.db")
    connection.execute("CREATE TABLE rows (kept TEXT, turned NUMERIC(6, 2))")
    connection.executemany("INSERT INTO rows VALUES (?, ?)", [("2.50", "2.50"), ("1.00", "1.00"), ("10.00", 10)])
    connection.commit()
    connection.close()
    records = QueryOptions(query="SELECT * FROM rows", url=f"sqlite:///{tmp_path / 'rows.db'}").records()
    for column in ("kept", "turned"):
        assert list(records.texts(column)) == ["2.5", "1", "10"]
        np.testing.assert_array_equal(records.numbers(column), [2.5, 1, 10])


# -- classes ----------------------------------------------------------------------------------------------------------


def test_the_only_record_of_a_class_is_trained_on_and_not_held_back(silo):
    task = silo("c,y\na,0\nb,1\na,0\na,0\na,0\na,0\n", "a, b", share=0.2)
    assert sorted(task.load_train().targets.tolist()) == [0, 0, 0, 0, 1]
    assert task.load_test().targets.tolist() == [0]


def test_an_empty_class_folder_shifts_no_label_and_is_no_error(tmp_path):
    pytest.importorskip("torchvision")
    from PIL import Image

    for name in ("ant", "bee", "cat"):
        (tmp_path / name).mkdir()
    Image.new("L", (8, 8), 51).save(tmp_path / "bee" / "grey.jpg")
    Image.new("RGB", (8, 8), (51, 51, 51)).save(tmp_path / "cat" / "colour.jpg")
    task = load_silo_task("image_folder", str(tmp_path), {"classes": "ant, bee, cat", "side": 8, "test-share": 0})
    examples = task.load_train()
    assert sorted(examples.targets.tolist()) == [1, 2]
    np.testing.assert_allclose(examples.inputs[0], examples.inputs[1], atol=0.02)
    assert task.build_model(0)[-1].out_features == 3
