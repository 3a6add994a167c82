"""`fedlaw check`: each wrong task is found by the check meant for it, a good one passes, and nothing is raised."""

import re

import numpy as np
import pytest
import torch
import wrong_tasks
from typer.testing import CliRunner

from fedlaw_flwr.silo.check import CHECKS, findings
from fedlaw_flwr.silo.checks.copies import fingerprints, standing, telling, windows

DATA = "/srv/private/records.csv"
WRONG = [
    (check, task if isinstance(task, str) else task.__name__)
    for check, tasks in wrong_tasks.WRONG.items()
    for task in tasks
]


def found(task: str, **settings):
    return findings(f"wrong_tasks:{task}", DATA, **settings)


def wrong(task: str, **settings):
    return [finding for finding in found(task, **settings) if finding.kind == "wrong"]


def notes(task: str) -> str:
    return "\n".join(finding.what for finding in found(task) if finding.kind == "note")


@pytest.fixture(scope="module")
def good():
    return found("Good")


def test_a_good_task_passes_every_check_with_at_least_one_finding_each(good):
    assert [finding for finding in good if finding.kind == "wrong"] == []
    assert [finding.check for finding in good if finding.kind == "ok"] == [
        "loads",
        *(check.name for check in CHECKS if check.name != "leaves"),
    ]


@pytest.mark.parametrize(("check", "task"), WRONG)
def test_a_wrong_task_is_found_by_the_check_meant_for_it_and_by_no_other(check, task):
    assert {finding.check for finding in wrong(task)} == {check}


def test_every_check_has_a_task_that_only_it_finds():
    assert set(wrong_tasks.WRONG) == {"loads", *(check.name for check in CHECKS)} - {"leaves"}


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("refuses", "/srv/private/records.csv: no column 'age'; there are age_years, sex"),
        ("stumbles", "KeyError: 'no such key' ("),
        ("Halved", "gives Halved without loss, metrics, load_train, load_test, description"),
        ("Holes", "load_train(): 2 of 96 examples have inputs that are not finite"),
        ("OneShort", "inputs (95, 4) float32, targets (96,) int64"),
        ("OtherInputs", "does not take inputs (64, 4) float32: RuntimeError: mat1 and mat2 shapes"),
        ("EachItsOwn", "(64,) float32: the mean over the examples is expected"),
        ("Forgotten", "no gradient reaches forgotten.weight, forgotten.bias"),
        ("GrowsABuffer", "names, shapes or dtypes: seen"),
        ("OneLeftForBatchNorm", "97 in batches of 16"),
        ("NaNMetric", "not finite on 24 examples: sensitivity=nan"),
        ("QuotesARow", "under 'example'"),
        ("Float8", "'packed' is (3,) float8_e4m3fn: float32, float64, float16 or complex64 is expected"),
        ("SparseBuffer", "'adjacency' is sparse_coo: only dense tensors travel"),
        ("KeepsRows", "array 'neighbours' holds 10 rows of the training examples"),
        ("KeepsTargets", "array 'labels' holds 1 targets of the training examples"),
        ("StartsFromData", "array 'centres' holds 4 columns of the training examples before training"),
    ],
)
def test_the_sentence_names_what_is_wrong_and_where(task, said):
    (finding,) = wrong(task)
    assert said in finding.what and "\n" not in finding.what


def test_the_sum_is_told_with_both_losses_and_twice_the_examples_give_twice_the_loss():
    (finding,) = wrong("Sum")
    once, twice = (float(number) for number in re.findall(r"\d+\.\d+", finding.what))
    assert twice == pytest.approx(2 * once, rel=1e-3)


def test_a_step_that_is_too_large_is_told_with_one_at_which_the_loss_falls():
    (finding,) = wrong("RawUnits", lr=1e-5)
    assert "that lr is too large: at 1e-07 it falls to" in finding.what
    assert wrong("RawUnits", lr=1e-7) == []


def test_no_step_helps_where_the_gradient_points_uphill():
    (finding,) = wrong("Uphill")
    assert "does not fall at 0.001, 0.01, 1, 10 either" in finding.what


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("BatchNormed", "12 numbers in 2 buffers (batch norm): the server combines them by the coordinate-wise median"),
        ("BatchNormed", "whole numbers stay as the server has them, whatever silos send: 1.num_batches_tracked"),
        ("Negative", "unless its `loss-floor` (0) is lower"),
        ("PartlyFrozen", "frozen, they travel and never change: 1.weight, 1.bias"),
        ("StartsAtZero", "the gradient is zero at the start for 0.weight, 0.bias"),
        ("SameForEverySeed", "the model is the same for every seed"),
        ("TestsOnTraining", "5 of 5 examples held back are trained on as well"),
        ("NothingHeldBack", "load_test() holds nothing back"),
        ("MovingBuffer", "training changes the buffers average, which the server takes for parameters"),
        ("CausalMask", "mask: some values are infinite, as in an attention mask"),
        ("Spectral", "each complex number is learned as two reals: weight"),
        ("CountsInDescription", "this silo's number of examples under 'records'"),
    ],
)
def test_what_a_person_must_decide_is_a_note_and_not_wrong(task, said):
    assert wrong(task) == []
    assert said in notes(task)


def test_a_loss_that_weighs_classes_is_a_mean():
    assert wrong("WeighsClasses") == []


def test_constants_and_labels_in_a_description_are_no_data():
    assert wrong("HarmlessNumbers") == []
    assert "number of examples" not in notes("HarmlessNumbers")


def test_what_would_leave_the_building_is_listed_by_name_shape_and_size(good):
    listed = "\n".join(finding.what for finding in good if finding.check == "leaves")
    # 4 x 6 + 6 + 6 x 2 + 2 numbers of 4 bytes
    assert "4 arrays of 0.2 kB" in listed
    for name in ("1.weight (6, 4) float32", "1.bias (6,)", "3.weight (2, 6)", "3.bias (2,)"):
        assert name in listed
    assert "num-examples 96" in listed and "accuracy" in listed and "classes: 0, 1" in listed


def test_what_is_wrong_first_says_which_checks_were_not_made():
    last = found("Empty")[-1]
    assert last.kind == "note" and last.what.startswith("not looked at until that is mended: outputs, loss,")


def test_looking_leaves_the_number_of_torchs_threads_as_it_was():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found("Good")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_equal_runs_have_equal_hashes_wherever_they_stand_and_others_have_not():
    rng = np.random.default_rng(0)
    haystack = rng.integers(0, 3, 500).astype(np.float32)
    hashes = windows(haystack, 6)
    runs = np.lib.stride_tricks.sliding_window_view(haystack, 6)
    same = (runs[:, None] == runs[None]).all(2)
    assert same.sum() > len(runs)  # some do recur
    assert np.array_equal(hashes[:, None] == hashes[None], same)


def test_rows_are_found_in_an_array_of_any_shape_and_float_type_that_holds_them():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(50, 9)).astype(np.float32)
    array = rng.normal(size=(20, 30))
    array.reshape(-1)[100:109], array.reshape(-1)[333:342] = rows[7], rows[41]
    assert set(standing(fingerprints(rows), 9, array)) == set(fingerprints(rows[[7, 41]]))
    assert len(standing(fingerprints(rows + 1e-6), 9, array)) == 0
    assert len(standing(fingerprints(rows), 9, array[:0])) == 0


def test_a_run_is_found_where_the_array_is_cut_into_chunks():
    values = np.random.default_rng(3).normal(size=2**18 + 100).astype(np.float32)
    for start in (2**18 - 8, 2**18 - 1, 2**18, 2**18 + 91):
        assert len(standing(fingerprints(values[None, start : start + 9]), 9, values)) == 1


def test_what_any_model_may_hold_by_chance_tells_nothing():
    mask = np.tril(np.ones((40, 40)))
    by_chance = np.stack([np.zeros(40), np.eye(40)[3], mask[17], np.repeat([0.0, 1.0], 20)])
    assert not telling(by_chance).any()
    assert telling(np.random.default_rng(2).integers(0, 2, (5, 40))).all()


def run(*arguments):
    from typer import Typer

    from fedlaw_flwr.cli.check import check

    app = Typer()
    app.command()(check)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_prints_a_line_for_each_finding_and_ends_with_1_where_something_is_wrong(good):
    done = run("wrong_tasks:Good", "--data-path", DATA)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert len(lines) == len(good)
    assert lines[0] == "ok    wrong_tasks:Good is a task, 'good'"
    done = run("wrong_tasks:Sum")
    assert done.exit_code == 1
    assert sum(line.startswith("WRONG ") for line in done.stdout.splitlines()) == 1


def test_task_data_and_options_can_come_from_silo_yaml(tmp_path):
    file = tmp_path / "silo.yaml"
    file.write_text("name: bonn\ntask: wrong_tasks:refuses\ndata-path: /srv/records\n")
    done = run("--silo", file)
    assert done.exit_code == 1 and "/srv/records: no column 'age'" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "which task?"),
        (["wrong_tasks:Good", "--silo", "silo.yaml"], "--silo takes task, data-path and options from the file"),
        (["wrong_tasks:Good", "--lr", "0"], "--lr 0: a step above 0"),
        (["wrong_tasks:Good", "--option", "columns=[1, 2]"], "--option columns=[1, 2]"),
        (["wrong_tasks:Good", "--option", "columns"], "'columns': a setting is written name=value"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(arguments, said):
    assert said in str(run(*arguments).exception)


def test_options_arrive_as_what_they_are(monkeypatch):
    seen = {}

    def task(data_path, options):
        seen.update(options)
        return wrong_tasks.Good(data_path, options)

    monkeypatch.setattr(wrong_tasks, "spy", task, raising=False)
    run("wrong_tasks:spy", "--option", "share=0.25", "--option", "header=true", "--option", "target=died")
    assert seen == {"share": 0.25, "header": True, "target": "died"}


def test_the_model_saved_for_the_server_is_the_one_every_silo_starts_from(tmp_path):
    from fedlaw_flwr.tasks.initial import load_initial

    file = tmp_path / "initial.safetensors"
    assert run("wrong_tasks:Good", "--seed", "5", "--save-model", file).exit_code == 0
    initial = load_initial(file)
    task = wrong_tasks.Good("", {})
    assert initial.task == "good" and initial.description == task.description()
    for key, value in task.build_model(5).state_dict().items():
        assert np.array_equal(initial.arrays[key], value.numpy())


def test_the_model_is_neither_overwritten_nor_written_for_a_wrong_task(tmp_path):
    file = tmp_path / "initial.safetensors"
    assert run("wrong_tasks:Sum", "--save-model", file).exit_code == 1
    assert not file.exists()
    file.write_bytes(b"agreed")
    assert isinstance(run("wrong_tasks:Good", "--save-model", file).exception, FileExistsError)
    assert file.read_bytes() == b"agreed"


def test_dropout_is_no_fault_as_its_draws_come_from_the_seed():
    assert wrong("Dropout") == []
