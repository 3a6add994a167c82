"""The rehearsal of one institution: its records dealt, some mislabelled, and a federation.yaml that holds together."""

import csv
import stat
from collections import Counter
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file as save_torch

from fedlaw_flwr.deploy.federation import Federation
from fedlaw_flwr.deploy.preflight import initial_model
from fedlaw_flwr.deploy.rehearsal import rehearse
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import from_dict
from fedlaw_flwr.events.verdict import verdict
from fedlaw_flwr.records.schema import Schema
from fedlaw_flwr.reporting.narrative import story
from fedlaw_flwr.silo.config import SiloConfig
from fedlaw_flwr.tasks.initial import load_initial, save_initial

SCHEMA = """\
target: {column: outcome, classes: [well, ill]}
numeric:
- {column: record, center: 60, scale: 60}
- {column: fever, center: 37, scale: 1, unit: degrees}
"""


@pytest.fixture
def silo(tmp_path: Path) -> SiloConfig:
    """120 records of which the number tells the class: even is well."""
    rows = [f"{number};p{number};{36 + number % 5},5;{'ill' if number % 2 else 'well'}" for number in range(120)]
    (tmp_path / "clinic.csv").write_text("\n".join(["record;name;fever;outcome", *rows]) + "\n")
    (tmp_path / "schema.yaml").write_text(SCHEMA)
    return SiloConfig(
        name="bonn",
        task="tabular",
        data_path=str(tmp_path / "clinic.csv"),
        options={"schema": "schema.yaml", "separator": ";", "decimal": ","},
    )


def records(file: Path, silo: int) -> list[dict[str, str]]:
    with (file.parent / "data" / f"silo-{silo}" / "records.csv").open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_every_record_is_dealt_once_and_the_last_silos_have_the_next_class(silo, tmp_path):
    file = rehearse(silo, tmp_path / "rehearsal", silos=6, mislabelled=2)
    dealt = [records(file, index) for index in range(6)]
    assert Counter(row["record"] for part in dealt for row in part) == Counter(str(n) for n in range(120))
    for index, part in enumerate(dealt):
        right = [(row["outcome"] == "ill") == bool(int(row["record"]) % 2) for row in part]
        assert len(part) == 20 and (all(right) if index < 4 else not any(right))
        assert set(part[0]) == {"record", "fever", "outcome"}  # the name, which is not learned from, stays at home
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_its_federation_holds_together_and_its_silos_agree_with_its_model(silo, tmp_path):
    file = rehearse(silo, tmp_path / "rehearsal", silos=5, mislabelled=1)
    federation = Federation.read(file)
    assert federation.settings().task == "own" and federation.settings().max_byzantine == 1
    agreed = load_initial(Path(federation.settings().initial_model))
    schema = Schema.read(tmp_path / "schema.yaml")
    assert agreed.task == "tabular" and agreed.description == schema.description()
    from fedlaw_flwr.apps.own import task_of

    for index in range(5):
        task = task_of(federation.silo_config(f"silo-{index}").node_config())
        assert task.description() == agreed.description
        assert len(task.load_train()) + len(task.load_test()) == 24


def test_a_parquet_file_is_dealt_in_the_spelling_that_its_types_mean(silo, tmp_path):
    """`to_csv` of its parts would write 2.0, True and a float of a code, and every cell would count as other."""
    count, code = 120, 900000000000207008
    frame = pd.DataFrame(
        {
            "grade": pd.array([None if row % 7 == 0 else row % 3 for row in range(count)], dtype="Int64"),
            "code": pd.array([None if row % 5 == 0 else code + row % 2 for row in range(count)], dtype="Int64"),
            "smoker": pd.array([row % 2 == 0 if row % 3 else None for row in range(count)], dtype="boolean"),
            "dose": [Decimal(f"{row % 4}.50") for row in range(count)],
            "fever": np.linspace(36, 40, count).astype(np.float32),
            "outcome": [row % 2 == 0 for row in range(count)],
        }
    )
    frame.to_parquet(tmp_path / "clinic.parquet")
    schema = """
target: {column: outcome, classes: ["false", "true"]}
numeric:
- {column: fever, center: 37, scale: 1}
categorical:
- {column: grade, values: ["0", "1", "2"], unseen: other, missing: slot}
- {column: code, values: ["900000000000207008", "900000000000207009"], unseen: other, missing: slot}
- {column: smoker, values: ["0", "1"], unseen: other, missing: slot}
- {column: dose, values: ["0.5", "1.5", "2.5", "3.5"], unseen: other}
"""
    (tmp_path / "typed.yaml").write_text(schema)
    changed = {"data_path": str(tmp_path / "clinic.parquet"), "options": {"schema": "typed.yaml"}}
    file = rehearse(silo.model_copy(update=changed), tmp_path / "rehearsal", silos=5, mislabelled=0)
    from fedlaw_flwr.apps.own import task_of
    from fedlaw_flwr.records.task import load_silo_task

    federation = Federation.read(file)
    parts = [task_of(federation.silo_config(f"silo-{index}").node_config()) for index in range(5)]
    whole = load_silo_task("tabular", str(tmp_path / "clinic.parquet"), {"schema": str(tmp_path / "typed.yaml")})

    def rows(*tasks):
        examples = [part for task in tasks for part in (task.load_train(), task.load_test())]
        return sorted(
            (*map(float, x), int(y)) for part in examples for x, y in zip(part.inputs, part.targets, strict=True)
        )

    assert rows(*parts) == rows(whole)
    assert not any(task.suspicions() for task in (whole, *parts))


@pytest.mark.parametrize(
    ("mislabelled", "known"), [(1, "silo-5:mislabelled"), (2, "silo-4:mislabelled,silo-5:mislabelled")]
)
def test_the_run_knows_whom_the_rehearsal_mislabelled_and_makes_none_of_them_attack(silo, tmp_path, mislabelled, known):
    federation = Federation.read(rehearse(silo, tmp_path / "rehearsal", silos=6, mislabelled=mislabelled))
    settings = federation.settings()
    assert settings.drills == known
    assert settings.known_attacks() == {name: "mislabelled" for name in known.replace(":mislabelled", "").split(",")}
    assert federation.drills == {} and {federation.silo_config(f"silo-{i}").attack for i in range(6)} == {""}


def test_the_verdict_on_a_rehearsal_names_the_mislabelled_silo_and_the_task(silo, tmp_path):
    settings = Federation.read(rehearse(silo, tmp_path / "rehearsal")).settings()
    learned = {"round": 6, "skipped": False, "silos": [f"silo-{i}" for i in range(5)], "phase": "learning"}
    started = {"settings": settings.as_config(), "attackers": settings.known_attacks(), "own-task": "tabular"}
    lines = [{"kind": "run", **started}, {"kind": "round", **learned, "weights": [0.25, 0.25, 0.25, 0.25, 0.0]}]
    run = Run.of(from_dict(line) for line in lines)
    what, who, _ = story(run)
    assert what.startswith("5 silos learned tabular, from data of their own, together for 1 of 6 rounds with FedLAW; ")
    assert what.endswith("; 1 of them had wrong labels on purpose (silo-4).")
    assert who == "The one mislabelled silo ended with no weight (since round 6): silo-4; no honest silo was excluded."
    found = verdict(run)
    assert (found.caught, found.attackers, found.wrongly_excluded, found.honest) == (1, 1, 0, 4)
    through = Run.of(from_dict(line) for line in [lines[0], {**lines[1], "weights": [0.2] * 5}])
    assert story(through)[1].startswith("The one mislabelled silo got through: silo-4 (together 20.0 % of the weight)")


def test_a_real_federation_still_does_not_claim_to_know_who_is_honest(silo, tmp_path):
    settings = Federation.read(rehearse(silo, tmp_path / "rehearsal", mislabelled=0)).settings()
    run = Run.of([from_dict({"kind": "run", "settings": settings.as_config()})])
    assert not run.is_honesty_known and "none of them was made to attack" in story(run)[0]
    assert story(run)[0].startswith("5 silos learned from data of their own together")


def test_preflight_says_of_the_initial_model_what_the_strategy_will_say(silo, tmp_path):
    federation = Federation.read(rehearse(silo, tmp_path / "rehearsal"))
    (right,) = initial_model(federation)
    assert right.ok and right.what.startswith("initial-model: ") and "parameters in" in right.what
    file = Path(federation.settings().initial_model)
    arrays = {"w": np.ones(2, np.float32), "mask": np.full(2, -np.inf, np.float32), "table": np.arange(2)}
    file.unlink()
    save_initial(file, arrays, "own", {})
    said = {finding.kind: finding.what for finding in initial_model(federation)}
    assert set(said) == {"ok", "note"} and "table (int64)" in said["note"]
    assert any("mask: some values are infinite" in finding.what for finding in initial_model(federation))
    save_torch({"w": torch.ones(2), "head": torch.ones(2, dtype=torch.bfloat16)}, file)
    (broken,) = initial_model(federation)
    assert broken.kind == "wrong"
    assert broken.what.endswith("array 'head' is BF16, which NumPy has not; save the model as float32")


def test_data_that_are_wrong_are_refused_before_anything_is_written(silo, tmp_path):
    text = (tmp_path / "clinic.csv").read_text().replace("36,5", "n/a", 1)
    (tmp_path / "clinic.csv").write_text(text)
    with pytest.raises(ValueError, match="column 'fever' row 1 is 'n/a', a number is expected"):
        rehearse(silo, tmp_path / "rehearsal")
    assert not (tmp_path / "rehearsal").exists()


@pytest.mark.parametrize(
    ("changed", "options", "sentence"),
    [
        ({}, {"silos": 3}, "3 silos, 1 of them mislabelled: at least 4 are needed"),
        ({}, {"silos": 6, "mislabelled": 3}, "2 b \\+ 2 for b mislabelled"),
        ({}, {"silos": 7}, "clinic.csv: 120 records for 7 silos; 20 each are needed"),
        ({"options": {"schema": "other.yaml", "separator": ";"}}, {}, "column 'pulse' is missing"),
        ({"task": "digits", "options": {}}, {}, "task='digits': only the records of a tabular silo"),
    ],
)
def test_what_cannot_be_rehearsed_is_one_sentence_and_leaves_nothing(silo, tmp_path, changed, options, sentence):
    (tmp_path / "other.yaml").write_text(SCHEMA.replace("fever", "pulse"))
    with pytest.raises(ValueError, match=sentence):
        rehearse(silo.model_copy(update=changed), tmp_path / "rehearsal", **options)
    assert not (tmp_path / "rehearsal").exists()


def test_a_folder_that_is_there_is_left_alone(silo, tmp_path):
    (tmp_path / "rehearsal").mkdir()
    with pytest.raises(FileExistsError, match="remove it or name another --folder"):
        rehearse(silo, tmp_path / "rehearsal")
    assert not list((tmp_path / "rehearsal").iterdir())
