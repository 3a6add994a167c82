"""Coming to one schema: what a draft proposes, what a summary gives away, and how far liars can move what is agreed."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fedlaw_flwr.cli.schema import schema as commands
from fedlaw_flwr.config.document import DocumentError
from fedlaw_flwr.records.agreement import CategoricalSummary, NumericSummary, SiloSummary, agree, summarise
from fedlaw_flwr.records.cells import Records
from fedlaw_flwr.records.draft import draft
from fedlaw_flwr.records.schema import Categorical, Numeric, Schema, Target
from fedlaw_flwr.records.task import load_silo_task

OPEN = Schema(
    target=Target(column="relapse", classes=("no", "yes")),
    numeric=(Numeric(column="age"),),
    categorical=(Categorical(column="sex", values=("f",), unseen="other"),),
)


def records(ages, **columns):
    count = len(ages)
    frame = {"age": ages, "sex": ["f", "m"] * (count // 2) + ["f"] * (count % 2), "relapse": ["no"] * count, **columns}
    return Records("patients.csv", pd.DataFrame(frame))


def said(center=60.0, scale=10.0, sex=("f", "m")):
    return SiloSummary(
        records=100,
        numeric=(NumericSummary(column="age", center=center, scale=scale),),
        categorical=(CategoricalSummary(column="sex", values=sex),),
    )


def agreed(summaries, b, schema=OPEN):
    return agree(schema, {f"silo-{index}": summary for index, summary in enumerate(summaries)}, b)


def run(*arguments):
    return CliRunner().invoke(commands, [str(argument) for argument in arguments])


# What a silo gives away.


def test_a_summary_is_the_median_and_the_mad_of_scipy_rounded():
    from scipy.stats import median_abs_deviation

    ages = np.random.default_rng(0).normal(61.234, 12.345, 457)
    found = summarise(OPEN, records(ages))
    assert found.records == 460
    (age,) = found.numeric
    assert age.center == round(float(np.median(ages)))
    assert age.scale == pytest.approx(median_abs_deviation(ages, scale="normal"), rel=0.05)
    assert age.scale == round(age.scale)


@pytest.mark.parametrize(
    ("values", "center", "scale"),
    [
        ([5.0] * 12 + [8.0] * 8, 5, 2.2),  # the MAD is 0; the IQR is 3, and 3 / 1.349 = 2.22
        ([5.0] * 18 + [8.0] * 2, 5, None),
        ([0.00123] * 10 + [0.00125] * 10, 0.00124, 1.5e-05),
        ([71234.0, 75432.0] * 10, 73300, 3100),
        ([np.nan] * 10 + [5.0] * 15, None, None),
    ],
)
def test_figures_of_columns_with_equal_or_missing_values(values, center, scale):
    (age,) = summarise(OPEN, records(values)).numeric
    assert age == NumericSummary(column="age", center=center, scale=scale)


def test_too_few_records_give_no_summary():
    assert summarise(OPEN, records([50.0] * 20)).records == 20
    with pytest.raises(ValueError, match=r"patients\.csv: 19 records; from fewer than 20 no summary is given"):
        summarise(OPEN, records([50.0] * 19))


def test_a_category_of_few_records_is_not_named():
    found = summarise(OPEN, records([50.0] * 40, sex=["f"] * 30 + ["m"] * 5 + ["Ada Lovelace"] * 4 + [None]))
    assert found.categorical[0].values == ("f", "m")
    assert "Ada" not in found.written()


def test_a_column_the_schema_names_wrong_is_told_before_anything_leaves():
    with pytest.raises(ValueError, match="column 'relapse' has 'maybe'"):
        summarise(OPEN, records([50.0] * 20, relapse=["maybe"] * 20))
    with pytest.raises(ValueError, match="column 'bmi' is missing"):
        summarise(OPEN.model_copy(update={"numeric": (Numeric(column="bmi"),)}), records([50.0] * 20))


# What is agreed.


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=8),
    st.randoms(use_true_random=False),
)
def test_fewer_than_half_lying_an_agreed_constant_lies_within_the_honest_range(honest, lies, random):
    lies = lies[: len(honest) - 1]
    centers = [*honest, *lies]
    random.shuffle(centers)
    found = agreed([said(center=center) for center in centers], len(lies)).schema.numeric[0]
    assert min(honest) <= found.center <= max(honest)
    scales = [abs(center) + 1e-3 for center in centers if abs(center) < 1e300]
    if len(scales) == len(centers):
        found = agreed([said(scale=scale) for scale in scales], len(lies)).schema.numeric[0]
        assert min(map(abs, honest)) + 1e-3 <= found.scale <= max(map(abs, honest)) + 1e-3


@given(st.integers(1, 4), st.lists(st.sampled_from(["f", "m", "d", "evil"]), min_size=1, max_size=4, unique=True))
def test_values_are_those_some_honest_silo_must_have_named(b, lie):
    found = agreed([said(sex=("f", "m"))] * (b + 1) + [said(sex=tuple(lie))] * b, b)
    assert found.schema.categorical[0].values == ("f", "m")
    assert all(value in str(found.notes) for value in set(lie) - {"f", "m"})


def test_a_lower_median_is_one_silos_own_figure():
    assert agreed([said(center=c) for c in (1, 2, 10, 20)], 1).schema.numeric[0].center == 2


def test_constants_a_person_wrote_stay():
    schema = OPEN.model_copy(update={"numeric": (Numeric(column="age", center=50, unit="years"),)})
    found = agreed([said(center=70, scale=9)] * 3, 1, schema).schema.numeric[0]
    assert (found.center, found.scale, found.unit) == (50, 9, "years")


def test_silence_on_a_column_cannot_leave_it_to_the_liars():
    """Four honest silos see no spread and give no scale: of the other three figures, two may be lies."""
    summaries = [said(scale=None)] * 4 + [said(scale=10)] + [said(scale=1e9)] * 2
    with pytest.raises(
        ValueError, match=r"column 'age': 3 silos give a scale, 2b \+ 1 = 5 are needed; write it by hand"
    ):
        agreed(summaries, 2)


def test_more_liars_than_summaries_can_bear_are_refused():
    with pytest.raises(ValueError, match=r"max-byzantine=2: .* 2b \+ 1 = 5 summaries are needed; there are 4"):
        agreed([said()] * 4, 2)


def test_a_silo_in_another_unit_is_named():
    found = agreed([said(), said(61), said(59), said(60 * 365, 3650), said(60, 0.5)], 2)
    assert [note.split(":")[0] for note in found.notes] == ["silo-3", "silo-4"]
    assert "center 21900 and scale 3650, agreed are center 60 and scale 10: another unit?" in found.notes[0]


def test_a_column_no_one_agrees_on_and_one_the_schema_has_not_are_named():
    odd = SiloSummary(records=100, numeric=(NumericSummary(column="agee", center=1),))
    with pytest.raises(ValueError) as found:
        agreed([odd, said(sex=("x",)), said(sex=("y",))], 1)
    assert "silo-0: column 'agee' is not one of the schema's" in str(found.value)
    assert "column 'age': 2 silos give a center, 2b + 1 = 3 are needed" in str(found.value)
    assert "column 'sex': no value is named by more than 1 silos" in str(found.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("records: 100\nnumeric:\n- {column: a, center: 1}\n- {column: a, center: 2}\n", "column 'a' is there 2 times"),
        ("records: 100\nnumeric:\n- {column: a, center: .inf}\n", r"bonn\.yaml:3: numeric\.0\.center=inf"),
        ("records: 100\nnumeric:\n- {column: a, scale: -1}\n", r"bonn\.yaml:3: numeric\.0\.scale=-1"),
        ("records: many\n", r"bonn\.yaml:1: records='many'"),
        ('records: 1\nnumeric:\n- {column: "a\\u001b[31m"}\n', r"bonn\.yaml:3: .*printable"),
        ("records: 1\nrows: [1]\n", r"bonn\.yaml:2: rows: there is no such key"),
        ("a: &a [1, 1]\nb: &b [*a, *a]\nrecords: 1\n", r"aliases \(\*name\) are not taken"),
        ("records: " + "[" * 10**5, "is not nested so deeply"),
        ("records: 1 #" + "x" * 2**20, "at most 1048576 bytes"),
        ("\x00", "cannot be read"),
    ],
)
def test_a_hostile_summary_is_refused_by_its_file(text, said, tmp_path):
    (tmp_path / "bonn.yaml").write_text(text)
    with pytest.raises(DocumentError, match=said):
        SiloSummary.read(tmp_path / "bonn.yaml")


@pytest.mark.parametrize(
    ("columns", "mostly"),
    [
        ({"ages": [50.0] * 39 + [60.0]}, ("constant", None)),
        ({"ages": [np.nan] * 30 + [50.0 + row for row in range(25)]}, ("missing", None)),
        ({"ages": [50.0 + row for row in range(40)], "sex": [None] * 30 + ["f", "m"] * 5}, (None, "missing")),
        ({"ages": [50.0 + row for row in range(40)], "sex": ["f"] * 40}, (None, None)),
        ({"ages": [50.0 + row for row in range(40)]}, (None, None)),
    ],
)
def test_a_summary_says_of_a_column_that_it_is_mostly_missing_or_constant(columns, mostly, tmp_path):
    columns = dict(columns)
    found = summarise(OPEN, records(columns.pop("ages"), **columns))
    assert (found.numeric[0].mostly, found.categorical[0].mostly) == mostly
    (tmp_path / "bonn.yaml").write_text(found.written())
    assert SiloSummary.read(tmp_path / "bonn.yaml") == found
    assert ("mostly" in found.written()) == any(mostly)


def test_a_silo_whose_column_says_nothing_is_named_and_so_is_a_column_that_says_nothing_anywhere():
    def silo(age=None, sex=None):
        return said().model_copy(
            update={
                "numeric": (NumericSummary(column="age", center=60, scale=10, mostly=age),),
                "categorical": (CategoricalSummary(column="sex", values=("f", "m"), mostly=sex),),
            }
        )

    found = agreed([silo(), silo("missing"), silo(sex="constant")], 1).notes
    assert found == (
        "silo-1: column 'age': more than half of the cells have no value, which is not so at 2 others",
        "silo-2: column 'sex': the cells are alike, which is not so at 2 others",
    )
    assert "at every silo: nothing can be learned from it" in agreed([silo("missing")] * 3, 1).notes[0]


def test_a_silo_that_spells_every_category_otherwise_is_named_with_the_agreed_ones():
    found = agreed([said(), said(), said(), said(sex=("F", "M"))], 1)
    assert found.schema.categorical[0].values == ("f", "m")
    assert "not more than 1 silos name F, M; they count as other: 'F' looks like 'f' (other case)" in found.notes[0]
    assert found.notes[1] == (
        "silo-3: column 'sex': none of the values it names (F, M) is agreed (f, m): there all cells count as other"
    )
    found = agreed([said(sex=("f", "m")), said(sex=("F", "m"))] * 2, 1)
    assert "two categories are agreed of which 'f' looks like 'F' (other case): are they one?" in str(found.notes)


@pytest.mark.parametrize("cells", [[True, False] * 20, ["t", "f"] * 20, [1, 0] * 20, ["1.0", "0.0"] * 20])
def test_a_summary_names_values_as_the_schema_spells_them(cells):
    flag = OPEN.model_copy(update={"categorical": (Categorical(column="sex", values=("false", "true")),)})
    found = summarise(flag, records([50.0 + row for row in range(40)], sex=cells))
    assert found.categorical[0].values == ("false", "true")


def test_a_summary_names_no_value_that_a_schema_cannot_hold():
    found = summarise(OPEN, records([50.0] * 40, sex=["f"] * 20 + ["z" * 300] * 20))
    assert found.categorical[0].values == ("f",)


# The draft.


def test_a_draft_proposes_kinds_and_takes_no_constant():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "patient": [f"P{index:03}" for index in range(60)],
            "number": range(60),
            "age": rng.normal(60, 12, 60),
            "grade": rng.integers(1, 4, 60),
            "sex": ["f", "m"] * 28 + ["Ada"] * 4,
            "letter": [f"seen on day {index // 2}, well" for index in range(30)] * 2,
            "empty": [None] * 60,
            "relapse": ["no", "yes"] * 30,
        }
    )
    frame["letter"] = [f"{text} {index % 59}" for index, text in enumerate(frame["letter"])]
    found = draft(Records("patients.csv", frame), "relapse")
    assert found.schema.target == Target(column="relapse", classes=("no", "yes"))
    assert found.schema.numeric == (Numeric(column="age", missing="center"),)
    kinds = {column.column: column.values for column in found.schema.categorical}
    assert kinds == {"grade": ("1", "2", "3"), "sex": ("f", "m")}
    left_out = {name for note in found.notes for name in re.findall("column '(.*)' is left out", note)}
    assert left_out == {"patient", "number", "letter", "empty"}
    assert "column 'sex': 1 values in fewer than 5 records are not listed" in found.notes


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("relapsed", "column 'relapsed' is missing; did you mean 'relapse'"),
        ("relapse", "column 'relapse' has 1 different values; 2 to 100 classes"),
        ("age", "column 'age' has 120 different values"),
    ],
)
def test_a_target_without_classes_is_refused(target, said):
    with pytest.raises(ValueError, match=said):
        draft(records([float(age) for age in range(120)]), target)


# The commands.


@pytest.fixture
def silos(tmp_path):
    """Three silos' files; the second writes weights in grams."""
    for index, (name, factor) in enumerate([("aachen", 1), ("bonn", 1000), ("chur", 1)]):
        rng = np.random.default_rng(index)
        frame = pd.DataFrame(
            {
                "weight": rng.normal(75, 14, 90) * factor,
                "sex": rng.choice(["f", "m"], 90),
                "relapse": rng.choice(["no", "yes"], 90),
            }
        )
        frame.to_csv(tmp_path / f"{name}.csv", index=False, sep=";")
    return tmp_path


def test_from_three_files_to_one_schema_and_a_task(silos):
    drafted, final = silos / "draft.yaml", silos / "schema.yaml"
    done = run("draft", silos / "aachen.csv", "--target", "relapse", "-o", "separator=;", "--out", drafted)
    assert done.exit_code == 0, done.output
    with pytest.raises(DocumentError, match="column 'weight' has no agreed center yet"):
        load_silo_task("tabular", str(silos / "aachen.csv"), {"schema": str(drafted), "separator": ";"})
    summaries = []
    for name in ("aachen", "bonn", "chur"):
        summaries.append(silos / f"{name}.summary.yaml")
        done = run("summary", drafted, silos / f"{name}.csv", "-o", "separator=;", "--out", summaries[-1])
        assert "no command here sends anything" in done.stdout
        assert summaries[-1].read_text() == done.stdout
    done = run("agree", drafted, *summaries, "--max-byzantine", 1, "--out", final)
    assert "bonn.summary.yaml: column 'weight' has center 7" in done.stderr and "another unit?" in done.stderr
    found = Schema.read(final)
    assert 70 < found.numeric[0].center < 80 and 10 < found.numeric[0].scale < 20
    task = load_silo_task("tabular", str(silos / "chur.csv"), {"schema": str(final), "separator": ";"})
    assert abs(float(task.load_train().inputs[:, -1].median())) < 0.5


def test_a_database_is_summarised_by_its_query(silos):
    import sqlite3

    frame = pd.read_csv(silos / "aachen.csv", sep=";")
    connection = sqlite3.connect(silos / "clinic.db")
    frame.to_sql("patients", connection, index=False)
    connection.close()
    run("draft", silos / "aachen.csv", "--target", "relapse", "-o", "separator=;", "--out", silos / "draft.yaml")
    file = run("summary", silos / "draft.yaml", silos / "aachen.csv", "-o", "separator=;")
    query = run(
        "summary", silos / "draft.yaml", "-o", "query=SELECT * FROM patients", "-o", f"url=sqlite:///{silos}/clinic.db"
    )
    assert query.exit_code == 0 and query.stdout == file.stdout


def test_a_summary_tells_its_operator_what_looks_wrong_and_nobody_else(silos):
    drafted = silos / "draft.yaml"
    run("draft", silos / "aachen.csv", "--target", "relapse", "-o", "separator=;", "--out", drafted)
    frame = pd.read_csv(silos / "chur.csv", sep=";")
    frame["sex"], frame["weight"] = frame["sex"].str.upper(), 70
    frame.to_parquet(silos / "chur.parquet")
    done = run("summary", drafted, silos / "chur.parquet")
    assert "90 of 90 cells are none of the schema's values (f, m): 'M', 'F'" in done.stderr.replace(
        "'F', 'M'", "'M', 'F'"
    )
    assert "'F' looks like 'f' (other case)" in done.stderr
    assert "column 'weight': 90 of 90 numbers are 70" in done.stderr
    assert "looks like" not in done.stdout and "mostly: constant" in done.stdout


def test_records_without_a_class_are_left_out_of_draft_and_summary_on_demand(silos):
    frame = pd.read_csv(silos / "aachen.csv")
    text = (silos / "aachen.csv").read_text() + "70;f;\n71;m;\n"
    (silos / "aachen.csv").write_text(text)
    where = silos / "aachen.csv", "-o", "separator=;"
    refused = run("draft", *where, "--target", "relapse")
    assert "has no value in row 91 and 1 more" in str(refused.exception) and len(frame) == 90
    done = run("draft", *where, "-o", "unlabelled=leave-out", "--target", "relapse", "--out", silos / "d.yaml")
    assert done.exit_code == 0, done.output
    assert run("summary", silos / "d.yaml", *where).exit_code != 0
    assert "records: 90" in run("summary", silos / "d.yaml", *where, "-o", "unlabelled=leave-out").stdout


def test_nothing_is_overwritten_and_no_silo_speaks_twice(silos):
    drafted = silos / "draft.yaml"
    run("draft", silos / "aachen.csv", "--target", "relapse", "-o", "separator=;", "--out", drafted)
    before = drafted.read_text()
    again = run("draft", silos / "chur.csv", "--target", "relapse", "-o", "separator=;", "--out", drafted)
    assert "exists and is not overwritten" in str(again.exception) and drafted.read_text() == before
    summary = silos / "a.yaml"
    run("summary", drafted, silos / "aachen.csv", "-o", "separator=;", "--out", summary)
    twice = run("agree", drafted, summary, silos / "." / "a.yaml", "--max-byzantine", 0)
    assert "is named twice: one summary of each silo" in str(twice.exception)
