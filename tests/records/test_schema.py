"""The schema: what it refuses, by line; what it says must agree; and what is said where two silos' do not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlaw_flwr.config.document import DocumentError
from fedlaw_flwr.records.schema import Categorical, Numeric, Schema, Target, differences

GOOD = """\
target:
  column: relapse
  classes: [no relapse, relapse]
numeric:
- {column: weight, center: 75, scale: 14, unit: kg}
- {column: age, center: 60, scale: 1.2e1, missing: indicator}
categorical:
- {column: sex, values: [m, f], unseen: other, missing: slot}
hidden: [8, 4]
test-share: 0.25
seed: 3
"""


def read(tmp_path, text, **how):
    path = tmp_path / "schema.yaml"
    path.write_text(text, encoding="utf-8")
    return Schema.read(path, **how)


def schema(*columns, classes=("a", "b"), hidden=(4,)):
    return Schema(
        target=Target(column="y", classes=classes),
        numeric=tuple(column for column in columns if isinstance(column, Numeric)),
        categorical=tuple(column for column in columns if isinstance(column, Categorical)),
        hidden=hidden,
    )


def test_the_net_has_an_input_for_each_number_value_and_slot(tmp_path):
    found = read(tmp_path, GOOD)
    assert [column.column for column in found.columns] == ["age", "sex", "weight"]
    assert found.widths == (2 + 4 + 1, 8, 4, 2)
    assert (found.test_share, found.seed) == (0.25, 3)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "classes: [no relapse, relapse]",
            "classes: [no, yes]",
            r"schema\.yaml:3: target\.classes\.0=False: write it in",
        ),
        ("classes: [no relapse, relapse]", "classes: [a]", r"schema\.yaml:3: target\.classes=.*at least 2"),
        ("classes: [no relapse, relapse]", "classes: [a, a]", r"schema\.yaml:3: .*'a' is there twice"),
        ("scale: 14", "scale: 0", r"schema\.yaml:5: numeric\.0\.scale=0: .*greater than 0"),
        ("scale: 14", "scale: .nan", r"schema\.yaml:5: numeric\.0\.scale=nan: .*finite"),
        ("center: 75", "centre: 75", r"schema\.yaml:5: numeric\.0\.centre: .*did you mean 'center'"),
        ("center: 75", "center: null", r"schema\.yaml:5: column 'weight' has no agreed center yet"),
        (", scale: 14", "", r"schema\.yaml:5: column 'weight' has no agreed scale yet"),
        ("missing: indicator", "missing: mean", r"schema\.yaml:6: numeric\.1\.missing='mean': .*'indicator'"),
        ("column: sex", "column: age", r"schema\.yaml:8: column 'age' is there twice, first in numeric"),
        ("column: sex", "column: relapse", r"schema\.yaml:8: column 'relapse' is there twice, first in target"),
        ("[m, f]", "[m, f, m]", r"schema\.yaml:8: .*'m' is there twice"),
        ("[m, f]", "[]", r"schema\.yaml:8: categorical\.0\.values"),
        ("unseen: other", "unseen: ignore", r"schema\.yaml:8: .*'refuse' or 'other'"),
        ("hidden: [8, 4]", "hidden: [8, 0]", r"schema\.yaml:9: hidden\.1=0"),
        ("test-share: 0.25", "test-share: 1", r"schema\.yaml:10: test-share=1: .*less than 1"),
        ("seed: 3", "sead: 3", r"schema\.yaml:11: sead: .*did you mean 'seed'"),
    ],
)
def test_what_is_wrong_in_a_schema_is_told_with_its_line(old, new, said, tmp_path):
    assert old in GOOD
    with pytest.raises(DocumentError, match=said):
        read(tmp_path, GOOD.replace(old, new))


def test_the_example_of_the_documentation_is_a_schema(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "reference" / "data.md").read_text(encoding="utf-8")
    (text,) = [block for block in page.split("```yaml\n")[1:] if block.startswith("target:")]
    assert read(tmp_path, text.split("```")[0]).widths == (2 + 1 + 4 + 4, 16, 2)


def test_a_schema_without_columns_to_learn_from_is_refused(tmp_path):
    with pytest.raises(DocumentError, match="no column under numeric or categorical"):
        read(tmp_path, "target: {column: y, classes: [a, b]}\n")


def test_a_draft_may_leave_constants_open(tmp_path):
    found = read(tmp_path, GOOD.replace("center: 75, scale: 14, ", ""), draft=True)
    assert (found.numeric[0].center, found.numeric[0].scale) == (None, None)


def test_a_written_schema_reads_as_the_same(tmp_path):
    odd = ("no", "1", "0x1F", "2024-01-31", "a; b", 'quo"te', "ä", "null", "- x", "#", "1e3")
    found = schema(
        Numeric(column="null", center=1e-7, scale=2**0.5, unit="mmol/l", missing="indicator"),
        Numeric(column="big", center=123456789.0, scale=1e300),
        Categorical(column="yes", values=odd, unseen="other"),
        classes=("off", "on"),
        hidden=(),
    )
    assert read(tmp_path, found.written()) == found


def test_the_order_of_columns_and_values_in_the_file_means_nothing_and_that_of_classes_does():
    age, sex = Numeric(column="age", center=60, scale=12), Categorical(column="sex", values=("f", "m"))
    turned = Categorical(column="sex", values=("m", "f"))
    assert schema(age, sex).description() == schema(turned, age).description()
    assert schema(age).description() != schema(age, classes=("b", "a")).description()


@pytest.mark.parametrize(
    "changed",
    [
        Numeric(column="age", center=60, scale=13, unit="years"),
        Numeric(column="age", center=60.000000000000007, scale=12, unit="years"),
        Numeric(column="age", center=60, scale=12),
        Numeric(column="age", center=60, scale=12, unit="years; missing center"),
        Numeric(column="age", center=60, scale=12, unit="years", missing="center"),
        Numeric(column="Age", center=60, scale=12, unit="years"),
        Categorical(column="age", values=("60", "12")),
    ],
)
def test_whatever_changes_the_inputs_changes_the_description(changed):
    agreed = schema(Numeric(column="age", center=60, scale=12, unit="years"))
    assert schema(changed).description() != agreed.description()


values = st.lists(st.text(st.sampled_from('ab, ;"\\'), min_size=1, max_size=8).map(str.strip), min_size=1, max_size=4)


@given(values, values)
def test_two_sets_of_values_are_described_alike_only_if_they_are_the_same(some, others):
    some, others = (list(dict.fromkeys(filter(None, texts))) or ["x"] for texts in (some, others))
    described = [
        schema(Categorical(column="c", values=tuple(texts))).description()["column c"] for texts in (some, others)
    ]
    assert (described[0] == described[1]) == (set(some) == set(others))


AGREED = schema(
    Numeric(column="age", center=60, scale=12, unit="years"),
    Categorical(column="sex", values=("female", "male")),
).description()


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (AGREED, []),
        ({key: AGREED[key] for key in AGREED if key != "column age"}, ["column 'age' is missing"]),
        ({**AGREED, "column bmi": "numeric; center 1"}, ["column 'bmi' is not agreed"]),
        (
            {**AGREED, "column sex": "categorical; values f, m; unseen refuse; missing refuse"},
            ["column 'sex': values f, m here, female, male agreed"],
        ),
        (
            {**AGREED, "column age": "numeric; center 60; scale 1; unit months; missing refuse"},
            ["column 'age': scale 1 here, 12 agreed; unit months here, years agreed"],
        ),
        (
            {**AGREED, "column age": "numeric; center 60; scale 12; missing refuse"},
            ["column 'age': unit none here, years agreed"],
        ),
        ({**AGREED, "column age": "categorical; values 1"}, ["column 'age': categorical here, numeric agreed"]),
        ({**AGREED, "target y": "classes b, a"}, ["target 'y': classes b, a here, a, b agreed"]),
        ({**AGREED, "net": "perceptron; widths 3, 9, 2"}, ["net: widths 3, 9, 2 here, 3, 4, 2 agreed"]),
    ],
)
def test_a_difference_is_a_sentence_by_name(own, said):
    assert differences(own, AGREED) == said


def test_where_two_long_lists_differ_only_at_their_end_the_end_is_shown():
    many = tuple(f"ward {number:03}" for number in range(200))
    own, agreed = (
        schema(Categorical(column="ward", values=names)).description() for names in (many, (*many[:-1], "ward X"))
    )
    (said,) = differences(own, agreed)
    assert "ward 199" in said and "ward X" in said and len(said) < 300


def test_hostile_texts_are_cut_and_printable():
    own = {**AGREED, "net": "\x1b[31m" + "x" * 10**6, "column \u202eega\n": "a"}
    said = differences(own, AGREED)
    assert len(said) == 2
    assert all(sentence.isprintable() and len(sentence) < 300 for sentence in said)


description = st.dictionaries(st.text(max_size=300), st.text(max_size=300), max_size=30)


@given(description, description)
def test_no_difference_is_found_exactly_between_equal_descriptions_whatever_their_texts(own, agreed):
    said = differences(own, agreed)
    assert (said == []) == (own == agreed)
    assert len(said) <= 21
    assert all(sentence.isprintable() and len(sentence) <= 1000 for sentence in said)
