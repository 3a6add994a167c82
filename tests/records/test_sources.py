"""One meaning, one spelling: the same rows as CSV, as Parquet and from a database give the same cells and examples."""

import datetime as dt
import unicodedata
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import sqlalchemy
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlaw_flwr.records.cells import Records, marks
from fedlaw_flwr.records.encoding import encode
from fedlaw_flwr.records.files import read_file
from fedlaw_flwr.records.schema import Categorical, Numeric, Schema, Target
from fedlaw_flwr.records.spelling import as_numbers, number, spell
from fedlaw_flwr.records.sql import QueryOptions
from fedlaw_flwr.silo.check import findings

LONG = (900000000000207008, 900000000000207009)
BERLIN = dt.timezone(dt.timedelta(hours=1))

# name: (values, the Arrow type, the SQL type, the one spelling)
COLUMNS = {
    "stage": ([1, None, 3, 1], pa.int64(), sqlalchemy.BigInteger, ["1", None, "3", "1"]),
    "code": (
        [LONG[0], LONG[1], None, LONG[0]],
        pa.int64(),
        sqlalchemy.BigInteger,
        [*map(str, LONG), None, str(LONG[0])],
    ),
    "dose": (
        [Decimal("2.50"), Decimal("1.00"), None, Decimal("10.00")],
        pa.decimal128(6, 2),
        sqlalchemy.Numeric(6, 2),
        ["2.5", "1", None, "10"],
    ),
    "level": ([0.5, 2.0, None, 1e-7], pa.float64(), sqlalchemy.Float, ["0.5", "2", None, "0.0000001"]),
    "smoker": ([True, None, False, True], pa.bool_(), sqlalchemy.Boolean, ["true", None, "false", "true"]),
    "seen": (
        [dt.date(2024, 2, 29), dt.date(1931, 1, 1), None, dt.date(2024, 2, 29)],
        pa.date32(),
        sqlalchemy.Date,
        ["2024-02-29", "1931-01-01", None, "2024-02-29"],
    ),
    "drawn": (
        [
            dt.datetime(2024, 1, 31, 10, 30),
            dt.datetime(2024, 1, 31),
            None,
            dt.datetime(1999, 12, 31, 23, 59, 59, 500000),
        ],
        pa.timestamp("us"),
        sqlalchemy.DateTime,
        ["2024-01-31 10:30:00", "2024-01-31", None, "1999-12-31 23:59:59.5"],
    ),
    "ward": (["Köln", "01", None, "A b"], pa.string(), sqlalchemy.String, ["Köln", "01", None, "A b"]),
}


def from_csv(folder, frame, **options):
    frame.to_csv(folder / "rows.csv", index=False)
    return Records("rows", read_file(folder / "rows.csv"), **options)


def from_parquet(folder, table, **options):
    parquet.write_table(table, folder / "rows.parquet")
    return Records("rows", read_file(folder / "rows.parquet"), **options)


def from_database(folder, columns, rows):
    engine = sqlalchemy.create_engine(f"sqlite:///{folder / 'rows.db'}")
    table = sqlalchemy.Table(
        "rows", sqlalchemy.MetaData(), *(sqlalchemy.Column(n, kind) for n, kind in columns.items())
    )
    table.create(engine)
    with engine.begin() as connection:
        connection.execute(table.insert(), rows)
    engine.dispose()
    return QueryOptions(query="SELECT * FROM rows", url=f"sqlite:///{folder / 'rows.db'}").records()


@pytest.fixture
def sources(tmp_path):
    """The same rows from all three, with `to_csv` of what pandas makes of them: NULL gives "1.0" and "True"."""
    values = {name: column[0] for name, column in COLUMNS.items()}
    table = pa.table({name: pa.array(column[0], column[1]) for name, column in COLUMNS.items()})
    # pandas' own type for it would lose digits: what it writes then, nobody can read right.
    frame = pd.DataFrame({**values, "code": pd.array(values["code"], dtype="Int64")})
    rows = [{name: values[name][row] for name in values} for row in range(4)]
    kinds = {name: column[2] for name, column in COLUMNS.items()}
    return {
        "csv": from_csv(tmp_path, frame),
        "parquet": from_parquet(tmp_path, table),
        "database": from_database(tmp_path, kinds, rows),
    }


@pytest.mark.parametrize("column", [name for name in COLUMNS if name != "smoker"])
def test_each_type_has_one_spelling_whatever_the_source(column, sources):
    expected = COLUMNS[column][3]
    assert {source: list(records.texts(column)) for source, records in sources.items()} == dict.fromkeys(
        sources, expected
    )


def test_truth_values_are_spelled_as_agreed_also_where_a_database_has_only_0_and_1(sources):
    assert list(sources["database"].texts("smoker")) == ["1", None, "0", "1"]
    for agreed in (("false", "true"), ("f", "t"), ("0", "1"), ("True", "False")):
        no, yes = sorted(agreed, key=lambda value: value.lower() in ("true", "t", "1"))
        for records in sources.values():
            assert list(records.texts("smoker", agreed)) == [yes, None, no, yes]


def test_the_examples_are_equal_bit_for_bit(sources):
    schema = Schema(
        target=Target(column="ward", classes=("01", "A b", "Köln")),
        numeric=(
            Numeric(column="level", center=0.3, scale=0.7, missing="indicator"),
            Numeric(column="dose", center=0.1, scale=0.3, missing="center"),
        ),
        categorical=(
            Categorical(column="stage", values=("1", "2"), unseen="other", missing="slot"),
            Categorical(column="code", values=tuple(map(str, LONG)), missing="slot"),
            Categorical(column="smoker", values=("false", "true"), missing="slot"),
            Categorical(column="seen", values=("2024-02-29",), unseen="other", missing="slot"),
        ),
    )
    found = [encode(schema, records.labelled("ward")) for records in sources.values()]
    assert len(found[0]) == 3 and found[0].inputs.shape[1] == schema.widths[0]
    assert all(torch.equal(other.inputs, found[0].inputs) for other in found)
    assert all(torch.equal(other.targets, found[0].targets) for other in found)


def test_moments_with_a_time_zone_are_spelled_in_utc(tmp_path):
    moments = [dt.datetime(2024, 1, 31, 10, 30, tzinfo=BERLIN), None, dt.datetime(2024, 7, 1, tzinfo=dt.UTC)]
    expected = ["2024-01-31 09:30:00+00:00", None, "2024-07-01 00:00:00+00:00"]
    for zone in ("UTC", "Europe/Berlin", "America/New_York"):
        table = pa.table({"at": pa.array(moments, pa.timestamp("us", tz=zone)), "row": [1, 2, 3]})
        assert list(from_parquet(tmp_path, table).texts("at")) == expected
        assert list(from_csv(tmp_path, table.to_pandas()).texts("at")) == expected
    for written in ("2024-01-31T09:30:00Z", "2024-01-31 10:30+01", "2024-01-31T10:30:00.000+0100"):
        assert spell(written) == expected[0]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1.0, 2.0, None], "float64"),
        ([1, 2, None], "Int64"),
        ([1, 2, None], "UInt8"),
        ([1.0, 2.0, None], "Float32"),
        ([1, 2, None], "int64[pyarrow]"),
        ([1, 2, None], "category"),
        ([1, 2, None], "object"),
        (["1.0", "2.0", None], "string"),
        (["1", "2", ""], "string[pyarrow]"),
        ([Decimal("1.000"), Decimal("2.000"), None], "object"),
        (["1.000", "2.000", " "], "object"),
        ([np.float32(1), np.int16(2), pd.NA], "object"),
    ],
)
def test_whole_numbers_are_one_spelling_in_every_type_of_pandas(values, dtype):
    records = Records("a table", pd.DataFrame({"grade": pd.Series(values, dtype=dtype)}))
    assert list(records.texts("grade")) == ["1", "2", None]
    np.testing.assert_array_equal(records.numbers("grade"), [1, 2, np.nan])


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([True, None, False], "boolean"),
        ([True, None, False], "bool[pyarrow]"),
        ([True, None, False], "object"),
        (["True", "", "False"], "string"),
        (["TRUE", None, "FALSE"], "object"),
        ([np.True_, np.nan, np.False_], "object"),
    ],
)
def test_truth_values_are_one_spelling_in_every_type_of_pandas(values, dtype):
    records = Records("a table", pd.DataFrame({"flag": pd.Series(values, dtype=dtype)}))
    assert list(records.texts("flag")) == ["true", None, "false"]


@pytest.mark.parametrize("cells", [["t", "f", "t"], [1, 0, 1], ["1.0", "0.0", "1.0"], [True, False, True]])
def test_truth_values_of_any_type_mean_the_agreed_pair(cells):
    records = Records("a table", pd.DataFrame({"flag": pd.Series(cells, dtype=object)}))
    assert list(records.texts("flag", ("true", "false"))) == ["true", "false", "true"]
    assert list(records.texts("flag", ("0", "1"))) == ["1", "0", "1"]


def test_letters_that_need_not_be_truth_values_are_not_taken_for_them():
    records = Records("a table", pd.DataFrame({"sex": ["f", "f"], "mixed": ["t", "1"]}))
    assert list(records.texts("sex", ("0", "1"))) == ["f", "f"]
    assert list(records.texts("mixed", ("false", "true"))) == ["t", "1"]


def test_a_float32_is_the_decimal_that_a_csv_of_it_holds(tmp_path):
    values = np.array([0.1, 36.6, 1e-7, 123456.79, np.nan], np.float32)
    table = pa.table({"x": pa.array(values), "row": range(5)})
    file, typed = from_csv(tmp_path, table.to_pandas()), from_parquet(tmp_path, table)
    np.testing.assert_array_equal(file.numbers("x"), typed.numbers("x"))
    assert typed.numbers("x")[0] == 0.1
    assert list(file.texts("x"))[:2] == list(typed.texts("x"))[:2] == ["0.1", "36.6"]


@pytest.mark.parametrize(
    "codes",
    [
        ["250.1", "250.10", "401.9"],  # ICD-9: two diagnoses
        ["01", "1", "02"],
        ["1E5", "2E7"],  # wells of a plate
        ["1.10", "1.9", "1.0"],
        ["007"],
        ["1.0", "V27.0"],
    ],
)
def test_codes_that_no_number_type_wrote_stay_as_they_are(codes):
    assert as_numbers(codes) == {}
    records = Records("a table", pd.DataFrame({"code": codes}))
    assert list(records.texts("code")) == codes


def test_a_code_agreed_as_it_stands_is_that_code_also_where_all_look_like_decimals():
    records = Records("a table", pd.DataFrame({"code": ["250.10", "250.11"]}))
    assert list(records.texts("code", ("250.1", "250.10", "250.11", "V27"))) == ["250.10", "250.11"]


@given(st.decimals(allow_nan=False, allow_infinity=False, places=5, min_value=-(10**30), max_value=10**30))
def test_a_number_keeps_its_value_and_has_one_spelling(value):
    text = number(str(value))
    assert Decimal(text) == value and number(text) == text
    assert number(f"{value:f}000") == text and "e" not in text


@given(st.integers(-(2**63), 2**64), st.integers(0, 3))
def test_whole_numbers_of_64_bits_are_exact(value, zeros):
    point = "." + "0" * zeros if zeros else ""
    assert spell(value) == str(value) == as_numbers([f"{value}{point}"])[f"{value}{point}"]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_floating_point_number_is_the_number_again(value):
    assert float(spell(value)) == value
    assert spell(np.float64(value)) == spell(value) == as_numbers([repr(value)])[repr(value)]


@given(st.datetimes(min_value=dt.datetime(1, 1, 2), max_value=dt.datetime(9999, 12, 30), timezones=st.timezones()))
def test_a_moment_has_one_spelling_in_every_zone(at):
    assert spell(at) == spell(at.astimezone(dt.UTC)) == spell(at.astimezone(dt.UTC).isoformat())


@given(st.datetimes())
def test_a_moment_as_text_is_that_moment(at):
    assert spell(at) == spell(at.isoformat()) == spell(at.isoformat(sep=" ")) == spell(str(at))


@pytest.mark.parametrize(
    "text", ["2024-02-30 10:00:00", "2024-01-31 25:00", "2024-01-31x", "1234-5", "2024-01-31 10:00 CET"]
)
def test_what_is_no_moment_stays_a_text(text):
    assert spell(text) == text


def test_an_index_of_pandas_is_a_column_as_to_csv_has_it(tmp_path):
    frame = pd.DataFrame({"patient": ["a", "b"], "age": [50, 60]}).set_index("patient")
    frame.to_parquet(tmp_path / "indexed.parquet")
    frame.to_csv(tmp_path / "indexed.csv")
    for name in ("indexed.parquet", "indexed.csv"):
        assert sorted(Records(name, read_file(tmp_path / name)).columns) == ["age", "patient"]
    frame.reset_index(drop=True)[::-1].to_parquet(tmp_path / "unnamed.parquet", index=True)
    assert Records("", read_file(tmp_path / "unnamed.parquet")).columns == ["age"]


def test_a_folder_that_looks_like_a_partition_adds_no_column(tmp_path):
    (tmp_path / "ward=7").mkdir()
    pd.DataFrame({"age": [1, 2]}).to_parquet(tmp_path / "ward=7" / "a.parquet")
    assert Records("", read_file(tmp_path / "ward=7" / "a.parquet")).columns == ["age"]


def nfd(text):
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize("turn", [nfd, lambda text: f"\u200b{text}\ufeff", lambda text: text.replace(" ", "\u00a0")])
def test_cells_names_and_agreed_texts_are_the_same_however_their_characters_are_stored(turn):
    frame = pd.DataFrame({turn("größe in cm"): [turn("sehr groß"), "mittel é"], "y": ["a", "b"]})
    records = Records("a table", frame)
    column = Categorical(column=turn("größe in cm"), values=(turn("sehr groß"), nfd("mittel é")))
    assert column == Categorical(column="größe in cm", values=("sehr groß", "mittel é"))
    schema = Schema(target=Target(column="y", classes=("a", "b")), categorical=(column,))
    assert encode(schema, records).inputs.tolist() == [[0, 1], [1, 0]]


def test_names_that_look_alike_are_said_to_be():
    frame = pd.DataFrame([[1, 2]], columns=["größe", nfd("größe")])
    with pytest.raises(ValueError, match="column 'größe' is there twice, written in ways that look alike"):
        Records("a table", frame)


@pytest.mark.parametrize(
    ("there", "differs"),
    [
        ("AGE", "other case"),
        ("Ag\u200ce", r"'Ag\\u200ce', other case"),
        ("äge", "other accents"),
        ("a_ge", "other punctuation"),
        ("\uff21\uff27\uff25", "other case"),
    ],
)
def test_a_missing_column_names_the_one_that_looks_like_it_and_what_differs(there, differs):
    with pytest.raises(ValueError, match=f"column 'age' is missing; there is .*{differs}.*: rename it"):
        raise ValueError(Records("a table", pd.DataFrame({there: [1]})).absent("age"))


def test_marks_for_missing_are_meant_in_every_spelling():
    missing = marks("-9, n/a, 1900-01-01 00:00:00")
    frame = pd.DataFrame(
        {
            "text": ["-9.0", "1.0", "n/a\u00a0"],
            "float": [-9.0, 1, 2],
            "decimal": [Decimal("-9.00"), None, 1],
            "day": [dt.date(1900, 1, 1), None, dt.date(2000, 1, 1)],
            "code": ["-09", "x", "y"],
        }
    )
    records = Records("a table", frame, missing=missing)
    assert list(records.texts("text")) == [None, "1", None]
    assert list(records.texts("float")) == [None, "1", "2"]
    assert list(records.texts("decimal")) == [None, None, "1"]
    assert list(records.texts("day")) == [None, None, "2000-01-01"]
    assert list(records.texts("code")) == ["-09", "x", "y"]
    for column in ("text", "float", "decimal"):
        assert np.isnan(records.numbers(column)[0])


def test_a_decimal_comma_is_for_texts_alone():
    frame = pd.DataFrame({"x": pd.Series(["1,50", 2.5, Decimal("3.5")], dtype=object), "code": ["1,0", "2,0", "1,0"]})
    records = Records("a table", frame, decimal=",")
    assert records.numbers("x").tolist() == [1.5, 2.5, 3.5]
    assert list(records.texts("code")) == ["1", "2", "1"]


@pytest.mark.parametrize(
    ("cell", "kind"), [([1, 2], "a list"), ({"a": 1}, "a mapping"), (b"\xff\xfe", "bytes that are no text")]
)
def test_a_cell_with_no_one_text_is_named(cell, kind):
    records = Records("a table", pd.DataFrame({"x": pd.Series(["a", cell], dtype=object)}))
    with pytest.raises(ValueError, match=f"a table: column 'x' row 2 holds {kind}; a text, a number or a date"):
        records.texts("x")
    with pytest.raises(ValueError, match="column 'x' row 1 is 'a', a number is expected"):
        records.numbers("x")


# What looks wrong.


SCHEMA = """\
target: {column: y, classes: ["0", "1"]}
numeric:
- {column: age, center: 60, scale: 10, missing: center}
categorical:
- {column: sex, values: [f, m], unseen: other, missing: slot}
- {column: grade, values: ["1", "2"], unseen: other, missing: slot}
"""


def write(tmp_path, **columns):
    """A silo's file and schema, these columns in place of good ones."""
    good = {"age": [50 + row % 21 for row in range(40)], "sex": ["f", "m"] * 20, "grade": [1, 2] * 20, "y": [0, 1] * 20}
    pd.DataFrame({**good, **columns}).to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "schema.yaml").write_text(SCHEMA)


def told(tmp_path, **columns):
    """What `fedlaw check` says of these data beside what it says of every task."""
    write(tmp_path, **columns)
    found = findings("tabular", str(tmp_path / "rows.csv"), {"schema": "schema.yaml"})
    assert not [finding for finding in found if finding.kind == "wrong"]
    return [finding.what for finding in found if finding.what.startswith("in the data: rows.csv: ")]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({}, []),
        (
            {"sex": ["F", "M"] * 20},
            ["40 of 40 cells are none of the schema's values (f, m)", "'F' looks like 'f' (other"],
        ),
        (
            {"sex": ["f", "m", "f", "M"] * 10},
            ["'M' looks like 'm' (other case) in 10 records; these cells count as other"],
        ),
        ({"sex": ["1", "2"] * 20}, ["40 of 40 cells are none of the schema's values (f, m): '1', '2'"]),
        ({"sex": ["f"] * 40}, ["all 40 cells that have a value are 'f'"]),
        ({"grade": ["01", "02"] * 20}, ["40 of 40 cells are none", "'01' looks like '1' (the same number)"]),
        ({"age": [None] * 30 + [50, 60] * 5}, ["30 of 40 cells have no value"]),
        ({"age": [61] * 40}, ["40 of 40 numbers are 61"]),
        ({"grade": [None] * 40}, ["40 of 40 cells have no value"]),
    ],
)
def test_check_says_which_column_is_mostly_other_missing_or_constant(columns, said, tmp_path):
    found = told(tmp_path, **columns)
    assert len(found) == len(said), found
    for sentence, part in zip(found, said, strict=True):
        assert part in sentence and f"column {next(iter(columns))!r}" in sentence


def test_alarms_tell_the_federation_the_column_and_nothing_of_the_data(tmp_path):
    from fedlaw_flwr.records.task import load_silo_task

    write(tmp_path, sex=["Ada", "Grace"] * 20, age=[7654321] * 40)
    task = load_silo_task("tabular", str(tmp_path / "rows.csv"), {"schema": "schema.yaml"})
    assert task.alarms == (
        "column 'age' is constant",
        "column 'age' seems to be in another unit than agreed",
        "column 'sex' is mostly other than the agreed values",
    )


def test_long_codes_that_came_as_floating_point_numbers_are_told(tmp_path):
    from fedlaw_flwr.records.suspicions import look

    schema = Schema(
        target=Target(column="y", classes=("0", "1")), categorical=(Categorical(column="code", values=("1",)),)
    )
    frame = pd.DataFrame({"code": [float(LONG[0]), float(LONG[1]), None], "y": [0, 1, 0]})
    assert "digits" in [suspicion.kind for suspicion in look(schema, Records("a table", frame))]


@pytest.mark.parametrize(
    ("cells", "agreed", "said"),
    [
        (["F", "m"], ["f", "m"], r"'F' looks like 'f' \(other case\): write it as agreed"),
        (["ja", "nein"], ["no", "yes"], r"'ja' looks like 'yes' \(a word for the same\)"),
        (["female", "m"], ["w", "m"], r"'female' looks like 'w' \(a word for the same\)"),
        (["31.01.2024", "x"], ["2024-01-31", "x"], r"looks like '2024-01-31' \(the same day\)"),
        (["Koeln", "x"], ["Köln", "x"], r"'Koeln' looks like 'Köln' \(accents written as letters\)"),
        (["KÃ¶ln", "x"], ["Köln", "x"], r"looks like 'Köln' \(read in a wrong encoding\)"),
        (["1,5", "x"], ["1.5", "x"], r"'1,5' looks like '1.5' \(the same number\)"),
        (["stage-II", "x"], ["stage II", "x"], r"'stage-II' looks like 'stage II' \(other punctuation\)"),
        (["A+", "B+"], ["A-", "B-"], "has 'A\\+', 'B\\+' \\(first in row 1\\), allowed are A-, B-$"),
        (["<5", ">5"], ["5", "6"], "allowed are 5, 6$"),
    ],
)
def test_a_value_that_is_refused_is_told_with_the_agreed_one_it_looks_like(cells, agreed, said):
    schema = Schema(
        target=Target(column="y", classes=("a", "b")), categorical=(Categorical(column="c", values=agreed),)
    )
    with pytest.raises(ValueError, match=said):
        encode(schema, Records("a table", pd.DataFrame({"c": cells, "y": ["a", "b"]})))
