"""Tables of an institution: cells read as they are meant, checked by name, encoded as scikit-learn would."""

import gzip
import logging
import re

import numpy as np
import pandas as pd
import pytest
import torch

from fedlaw_flwr.core import seeding
from fedlaw_flwr.records.cells import Records
from fedlaw_flwr.records.encoding import encode
from fedlaw_flwr.records.holdout import hold_back
from fedlaw_flwr.records.schema import Categorical, Numeric, Schema, Target
from fedlaw_flwr.records.task import load_silo_task
from fedlaw_flwr.tasks.base import Examples
from fedlaw_flwr.tasks.classification import label_metrics
from fedlaw_flwr.tasks.models import mlp
from fedlaw_flwr.training.local import evaluate, train

SCHEMA = """\
target: {column: relapse, classes: ["no", "yes"]}
numeric:
- {column: age, center: 60, scale: 10, unit: years, missing: indicator}
- {column: weight, center: 75, scale: 15, unit: kg}
categorical:
- {column: sex, values: [f, m], unseen: other, missing: slot}
- {column: ward, values: [B, A]}
hidden: [8]
test-share: 0.25
"""

CSV = """\
id,age,weight,sex,ward,relapse
1,70,60,f,A,yes
2,,75,m,B,no
3,55,90,x,A,no
4,60,75,,B,yes
"""

# Columns by name: age, its indicator; sex f, m, other, missing; ward A, B; weight.
ENCODED = [
    [1.0, 0, 1, 0, 0, 0, 1, 0, -1],
    [0.0, 1, 0, 1, 0, 0, 0, 1, 0],
    [-0.5, 0, 0, 0, 1, 0, 1, 0, 1],
    [0.0, 0, 0, 0, 0, 1, 0, 1, 0],
]


@pytest.fixture
def silo(tmp_path):
    """Writes a silo's file and makes its task."""
    (tmp_path / "schema.yaml").write_text(SCHEMA)

    def make(text=CSV, name="patients.csv", written_in="utf-8", **options):
        (tmp_path / name).write_bytes(text.encode(written_in) if isinstance(text, str) else text)
        return load_silo_task("tabular", str(tmp_path / name), {"schema": "schema.yaml", **options})

    return make


def rows(*parts):
    """All rows of these examples, target last, in an order that says nothing."""
    return sorted(
        (*map(float, inputs), float(target))
        for part in parts
        for inputs, target in zip(part.inputs, part.targets, strict=True)
    )


def rows_of(task):
    return rows(task.load_train(), task.load_test())


EXPECTED = sorted((*inputs, target) for inputs, target in zip(ENCODED, [1.0, 0.0, 0.0, 1.0], strict=True))


def test_a_file_is_encoded_as_worked_by_hand(silo):
    assert rows_of(silo()) == EXPECTED


@pytest.mark.parametrize(
    ("text", "name", "options", "written_in"),
    [
        (CSV.replace(",", ";"), "patients.csv", {"separator": ";"}, "utf-8"),
        (CSV.replace(",", "\t"), "patients.tsv", {}, "utf-8"),
        (CSV.replace(",", "\t"), "patients.csv", {"separator": "tab"}, "utf-8"),
        (CSV.replace("\n", "\r\n"), "patients.csv", {}, "utf-8-sig"),
        (CSV.replace(",", " , "), "patients.csv", {}, "utf-8"),
        (CSV.replace(",,", ",NA,").replace("75", "7.5e1"), "patients.csv", {"missing": "NA, n/a"}, "utf-8"),
        (CSV.replace(",,", ",-9,").replace("75", "75.0"), "patients.csv", {"missing": -9}, "utf-8"),
        (CSV.replace("75", '"75,0"'), "patients.csv", {"decimal": ","}, "utf-8"),
        (CSV.replace("id", "Größe"), "patients.csv", {"encoding": "cp1252"}, "cp1252"),
        (CSV.replace(",x,", ',"a ""third"", one",') + "\n\n", "patients.csv", {}, "utf-8"),
    ],
)
def test_the_same_records_written_otherwise_are_the_same_examples(text, name, options, written_in, silo):
    assert rows_of(silo(text, name, written_in, **options)) == EXPECTED


def test_parquet_gives_what_csv_gives(silo, tmp_path):
    (tmp_path / "some.csv").write_text(CSV)
    frame = pd.read_csv(tmp_path / "some.csv", dtype={"sex": "category"})
    assert frame["age"].dtype == float and frame["weight"].dtype == int
    path = tmp_path / "patients.parquet"
    frame.to_parquet(path)
    assert rows_of(load_silo_task("tabular", str(path), {"schema": "schema.yaml"})) == EXPECTED


def test_whole_numbers_and_truth_values_are_spelled_alike_whatever_their_type():
    frame = pd.DataFrame({"grade": [1.0, 2.0, None], "flag": [True, False, True], "code": [7, 8, 9]})
    records = Records("a table", frame)
    assert list(records.texts("grade")) == ["1", "2", None]
    assert list(records.texts("flag")) == ["true", "false", "true"]
    assert list(records.texts("code")) == ["7", "8", "9"]
    with pytest.raises(ValueError, match="column 'flag' row 1 is 'true', a number is expected"):
        records.numbers("flag")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("age,", "agee,", r"patients\.csv: column 'age' is missing; did you mean 'agee'\?"),
        ("relapse", "outcome", r"column 'relapse' is missing; there are id, age, weight, sex, ward, outcome"),
        ("3,55", "3,n/a", r"column 'age' row 3 is 'n/a', a number is expected; if it stands for no value"),
        ("3,55", "3,inf", r"column 'age' row 3 is 'inf', a number is expected"),
        ("3,55", "3,1_0", r"column 'age' row 3 is '1_0', a number is expected"),
        ("3,55", "3,1e30", r"column 'age' row 3 is '1e30', a number of at most 1e\+19"),
        (",90,", ',"9,5",', r"column 'weight' row 3 is '9,5', a number is expected with decimal '\.'; set the option"),
        (",90,", ",,", r"column 'weight' has no value in row 3, and the schema says missing: refuse"),
        (",A,", ",C,", r"column 'ward' has 'C' \(first in row 1\), allowed are A, B"),
        ("4,60,75,,B", "4,60,75,,", r"column 'ward' has no value in row 4"),
        (",yes", ",maybe", r"column 'relapse' has 'maybe' \(first in row 1\), allowed are no, yes"),
        (",no", ",", r"column 'relapse' has no value in row 2 and 1 more; of a record without its class"),
        ("id,", "age,", r"column 'age' is there twice"),
        ("3,55,90,x", "3,55,90", r"patients\.csv: row 3 has 5 cells, the header has 6"),
        (",yes\n2", ',"yes\n2', r"patients\.csv: it cannot be read"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_column_and_row(old, new, said, silo):
    assert old in CSV
    with pytest.raises(ValueError, match=said):
        silo(CSV.replace(old, new))


def test_every_wrong_column_gets_a_sentence(silo):
    with pytest.raises(ValueError) as found:
        silo(CSV.replace(",A,", ",C,").replace("3,55", "3,old").replace("yes", "ja"))
    assert [line.split("'")[1] for line in str(found.value).splitlines()] == ["relapse", "age", "ward"]


def test_a_thousands_point_is_not_read_as_a_decimal_point(silo):
    with pytest.raises(ValueError, match=r"column 'weight' row 2 is '1\.234', a number is expected with decimal ','"):
        silo(CSV.replace("2,,75", "2,,1.234"), decimal=",")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sepparator": ";"}, "there is no option 'sepparator'; did you mean 'separator'"),
        ({"separator": ";;"}, "option separator=';;'"),
        ({"decimal": ";"}, "option decimal=';'"),
        ({"separator": ";"}, "its one column is 'id,age,weight,sex,ward,relapse'; set the option separator, ','"),
        ({"schema": "other.yaml"}, r"other\.yaml: cannot be read"),
        ({"encoding": "utf-9"}, "encoding='utf-9': there is no such encoding"),
        ({"encoding": "ascii"}, "it is not written in ascii"),
        ({"file": "b.csv"}, "is a file, and file='b.csv' another"),
    ],
)
def test_a_wrong_option_is_named(options, said, silo):
    with pytest.raises(ValueError, match=said):
        silo(CSV.replace(",x,", ",ü,"), **options)


def test_a_missing_schema_option_is_named(tmp_path):
    with pytest.raises(ValueError, match="option 'schema' is missing"):
        load_silo_task("tabular", str(tmp_path), {})


def test_a_folder_holds_one_file_or_the_one_named(silo, tmp_path):
    with pytest.raises(ValueError, match=r"one file is expected and there is no \.csv"):
        load_silo_task("tabular", str(tmp_path), {"schema": "schema.yaml"})
    silo()
    assert rows_of(load_silo_task("tabular", str(tmp_path), {"schema": "schema.yaml"})) == EXPECTED
    (tmp_path / "b.csv").write_text(CSV.replace(",A,", ",B,"))
    with pytest.raises(ValueError, match=r"there is b\.csv, patients\.csv; name it: file"):
        load_silo_task("tabular", str(tmp_path), {"schema": "schema.yaml"})
    named = load_silo_task("tabular", str(tmp_path), {"schema": "schema.yaml", "file": "patients.csv"})
    assert rows_of(named) == EXPECTED


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("", "empty.csv", r"empty\.csv: it is empty"),
        ("age,weight\n", "header.csv", r"header\.csv: there is no record"),
        (b"PAR1 but no more", "broken.parquet", r"broken\.parquet: it cannot be read"),
        (gzip.compress(CSV.encode(), mtime=0), "patients.csv.gz", r"patients\.csv\.gz: its name must end in \.csv"),
        (b"\xff\xfe\x00", "binary.csv", r"binary\.csv: it is not written in utf-8"),
    ],
)
def test_a_file_that_cannot_be_records_is_refused_by_name(text, name, said, silo):
    with pytest.raises(ValueError, match=said):
        silo(text, name)


def test_encoding_agrees_with_scikit_learn_given_the_agreed_constants():
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rng = np.random.default_rng(4)
    frame = pd.DataFrame(
        {"b": rng.normal(5, 3, 200), "a": rng.choice(["x", "y", "z"], 200), "y": rng.choice(["0", "1"], 200)}
    )
    schema = Schema(
        target=Target(column="y", classes=("0", "1")),
        numeric=(Numeric(column="b", center=4.5, scale=2.5),),
        categorical=(Categorical(column="a", values=("z", "x", "y")),),
    )
    scaler = StandardScaler()
    scaler.mean_, scaler.scale_, scaler.var_, scaler.n_features_in_ = (
        np.array([4.5]),
        np.array([2.5]),
        np.array([6.25]),
        1,
    )
    one_hot = OneHotEncoder(categories=[["x", "y", "z"]], sparse_output=False).fit_transform(frame[["a"]].to_numpy())
    expected = np.hstack([one_hot, scaler.transform(frame[["b"]].to_numpy())])
    np.testing.assert_allclose(encode(schema, Records("a table", frame)).inputs, expected, rtol=1e-6, atol=1e-7)


def examples(count, seed=0, share=0.3):
    rng = np.random.default_rng(seed)
    targets = (rng.random(count) < share).astype(np.int64)
    return Examples(torch.from_numpy(rng.normal(size=(count, 3)).astype(np.float32)), torch.from_numpy(targets))


def test_the_test_set_is_the_share_of_each_class_and_nothing_is_lost():
    pool = examples(101)
    kept, held = hold_back(pool, 0.2, 7)
    assert rows(kept, held) == rows(pool)
    for label in (0, 1):
        assert int((held.targets == label).sum()) == int((pool.targets == label).sum()) // 5


def test_the_split_and_its_order_depend_on_content_and_seed_alone():
    pool = examples(60)
    turned = torch.from_numpy(np.random.default_rng(1).permutation(60))
    first, again = hold_back(pool, 0.2, 7), hold_back(Examples(pool.inputs[turned], pool.targets[turned]), 0.2, 7)
    for part, other in zip(first, again, strict=True):
        assert torch.equal(part.inputs, other.inputs) and torch.equal(part.targets, other.targets)
    assert rows(hold_back(pool, 0.2, 8)[1]) != rows(first[1])


@pytest.mark.parametrize(
    ("count", "share", "held"), [(1, 0.9, 0), (2, 0.01, 1), (4, 0.2, 1), (4, 0, 0), (50, 0.98, 49)]
)
def test_training_keeps_a_record_and_a_wanted_test_set_gets_one_where_there_are_two(count, share, held):
    kept, test = hold_back(examples(count, share=0), share, 0)
    assert (len(kept), len(test)) == (count - held, held)


def test_the_model_is_the_schemas_perceptron_from_the_seed_alone(silo):
    task = silo()
    with torch.random.fork_rng():
        torch.manual_seed(seeding.integer(5, "model"))
        same = mlp(9, 8, 2)
    found = task.build_model(5)
    assert [tuple(p.shape) for p in found.parameters()] == [(8, 9), (8,), (2, 8), (2,)]
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), same.parameters(), strict=True))


def test_metrics_are_those_of_scikit_learn():
    from sklearn.metrics import accuracy_score, roc_auc_score

    rng = np.random.default_rng(2)
    outputs, targets = rng.normal(size=(80, 2)), rng.integers(0, 2, 80)
    found = label_metrics(torch.from_numpy(outputs), torch.from_numpy(targets), 2)
    assert found["accuracy"] == pytest.approx(accuracy_score(targets, outputs.argmax(1)))
    assert found["auc"] == pytest.approx(roc_auc_score(targets, outputs[:, 1] - outputs[:, 0]))
    assert label_metrics(torch.empty(0, 2), torch.empty(0, dtype=torch.int64), 2) == {}


@pytest.mark.parametrize(
    ("factor", "said"),
    [(1, None), (1000, r"median is 7\d{4}.*another unit"), (1 / 18, r"median is 4.* and spread 0.*another unit")],
)
def test_a_column_in_another_unit_is_suspected_and_told_in_the_silos_own_log(factor, said, silo, caplog):
    rng = np.random.default_rng(3)
    lines = [
        f"{i},{50 + i % 20},{rng.normal(75, 14) * factor},{'fm'[i % 2]},{'AB'[i % 2]},{'yes' if i % 2 else 'no'}"
        for i in range(50)
    ]
    with caplog.at_level(logging.WARNING, "fedlaw.silo"):
        task = silo("\n".join([CSV.splitlines()[0], *lines]))
    if said is None:
        assert task.suspicions() == [] and caplog.text == ""
    else:
        (found,) = task.suspicions()
        assert "patients.csv: column 'weight'" in found and found in caplog.text
        assert re.search(said, found)
    assert "another unit" not in str(task.description())


def test_a_real_table_is_learned(tmp_path):
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer(as_frame=True)
    frame = found.data.assign(diagnosis=np.where(found.target == 0, "malignant", "benign"))
    frame.to_csv(tmp_path / "wdbc.csv", index=False)
    columns = [
        Numeric(column=name, center=float(frame[name].median()), scale=float(frame[name].std()))
        for name in found.feature_names
    ]
    schema = Schema(target=Target(column="diagnosis", classes=("benign", "malignant")), numeric=tuple(columns))
    (tmp_path / "schema.yaml").write_text(schema.written())
    task = load_silo_task("tabular", str(tmp_path), {"schema": "schema.yaml"})
    model = task.build_model(0)
    train(model, task, task.load_train(), lr=0.1, epochs=5, batch_size=16, rng=np.random.default_rng(0))
    assert evaluate(model, task, task.load_test())["auc"] > 0.97
