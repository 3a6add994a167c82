"""`fedlaw grid`: what an experiment file stands for, and that no run is lost, done twice or summed up wrongly."""

import csv
import gzip
import logging
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import fake_runs
import psutil
import pytest
from typer.testing import CliRunner

from benchmarks import results
from benchmarks.one_run import run_of
from fedlaw_flwr.cli import grid as command
from fedlaw_flwr.cli.main import app
from fedlaw_flwr.config.document import DocumentError
from fedlaw_flwr.config.settings import Settings, parsed
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import Evaluated, ExchangeTotals, NoReply, ReplyRejected, RoundEnded, RunStarted
from fedlaw_flwr.events.verdict import verdict
from fedlaw_flwr.studies import drawing, parallel, worker
from fedlaw_flwr.studies.curves import Curves, Point, points_of, read_points, write_points
from fedlaw_flwr.studies.drawing import draw_all
from fedlaw_flwr.studies.parallel import run_several
from fedlaw_flwr.studies.plan import Experiment, Figure, PlannedRun
from fedlaw_flwr.studies.summary import cells_of, common_settings, markdown, own_settings, read_paper, write_summary
from fedlaw_flwr.studies.table import FIELDS, TableError, found_elsewhere, key_of, opened, read_rows, recorded
from fedlaw_flwr.studies.worker import Place, commit_of

ROOT = Path(__file__).resolve().parents[2]
_ERROR = "error 2: MemoryError"
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))
SMALL = """
about: a few rounds on digits
settings: {task: digits, num-silos: 8, num-rounds: 3, weight-rounds: 2, local-epochs: 1, max-byzantine: =byzantine}
methods:
  FedLAW: {strategy: fedlaw, beta: 0.1}
  FedAVG: {strategy: fedavg}
runs:
  - {attack: [inverse_gradient, label_flipping], byzantine: 2}
seeds: [0, 1]
figures:
  - {kind: weights, panels: [attack, seed], methods: [FedLAW]}
  - {kind: accuracy, panels: [attack]}
  - {kind: sweep, over: attack}
"""


def written(folder, text=SMALL, name="small"):
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def read(folder, text=SMALL, **where):
    return Experiment.read(written(folder, text), where)


def grid(*arguments):
    return CliRunner().invoke(app, ["grid", *map(str, arguments)])


def where_to(folder):
    return "--results", folder / "results", "--runs", folder / "runs"


# -- the file -------------------------------------------------------------------------------------------------------


def test_a_file_stands_for_every_method_under_every_choice_with_every_seed(tmp_path):
    found = read(tmp_path)
    assert [(run.method, run.values["attack"], run.seed) for run in found.runs] == [
        (method, attack, seed)
        for seed in (0, 1)
        for attack in ("inverse_gradient", "label_flipping")
        for method in ("FedLAW", "FedAVG")
    ]
    assert found.axes == ["attack", "byzantine"]
    assert all(run.values["max-byzantine"] == 2 for run in found.runs)


def test_runs_outdo_methods_and_methods_outdo_settings(tmp_path):
    text = "about: x\nsettings: {lr: 0.3, beta: 0.5}\nmethods: {A: {beta: 0.2, s: 17}}\nruns: [{s: 18}]\nseeds: [4]\n"
    (run,) = read(tmp_path, text).runs
    assert run.values == {"lr": 0.3, "beta": 0.2, "s": 18}
    settings = run.settings({})
    assert (settings.lr, settings.beta, settings.s, settings.seed) == (0.3, 0.2, 18, 4)


def test_a_run_that_two_blocks_name_is_done_once(tmp_path):
    text = SMALL.replace("seeds:", "  - {attack: label_flipping, byzantine: [2, 3]}\nseeds:")
    assert len(read(tmp_path, text).runs) == 12


def test_a_setting_may_hang_on_another_ones_value_and_is_left_out_where_that_has_none(tmp_path):
    text = SMALL.replace("num-rounds: 3", "num-rounds: 3, knowledge: {attack: {label_flipping: omniscient}}")
    text = text.replace("beta: 0.1", "beta: {max-byzantine: {2: 0.1, 3: 0.2}}")
    text = text.replace(", max-byzantine: =byzantine", "").replace(
        "byzantine: 2}", "byzantine: 2, max-byzantine: [2, 3]}"
    )
    for run in read(tmp_path, text).runs:
        assert run.values.get("knowledge") == {"label_flipping": "omniscient"}.get(run.values["attack"])
        beta = {2: 0.1, 3: 0.2}[run.values["max-byzantine"]]
        assert run.values.get("beta") == (beta if run.method == "FedLAW" else None)


def test_a_runs_text_is_what_fedlaw_run_takes(tmp_path):
    text = SMALL.replace("task: digits", 'task: digits, widths: "32, 16", buffers: "(a|b)\\\\.c$"')
    for run in read(tmp_path, text).runs:
        assert Settings.read(parsed(shlex.split(run.text))) == run.settings({})
        assert run.settings({}).buffers == "(a|b)\\.c$"


def test_its_name_hangs_on_method_settings_and_seed_alone():
    run = PlannedRun("A", {"lr": 0.1, "q": 0.9}, 0)
    assert run.name == PlannedRun("A", {"q": 0.9, "lr": 0.1}, 0).name
    others = [replace(run, method="B"), replace(run, seed=1), replace(run, values={"lr": 0.2, "q": 0.9})]
    assert len({run.name, *(other.name for other in others)}) == 4


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("num-rounds: 3", "num-rounds: none", ":3: num-rounds='none'"),
        ("num-silos", "num-silo", ":3: num-silo: there is no such setting; did you mean 'num-silos'?"),
        ("beta: 0.1", "beta: -1", ":5: beta=-1"),
        ("max-byzantine: =byzantine", "max-byzantine: =b", ":8: FedLAW: max-byzantine='=b': 'b' is no setting"),
        ("byzantine: 2}", "byzantine: 2, method: Krum}", ":8: method='Krum': methods are FedLAW, FedAVG"),
        ("byzantine: 2}", "byzantine: 2, seed: 3}", ":8: seed is no part of an experiment; the file's `seeds` says it"),
        ("task: digits", "task: digits, data-dir: x", ":3: data-dir is no part of an experiment; it is said when"),
        ("over: attack", "over: beta", ":13: 'beta' is none of the settings that runs vary: attack, byzantine"),
        (
            "beta: 0.1",
            "beta: {attac: {lie: 1}}",
            ":8: FedLAW: beta={'attac': {'lie': 1}}: 'attac' is no setting with a",
        ),
        ("beta: 0.1", "beta: {attack: {lie: 1}}", ":5: beta: no run here has attack='lie'"),
        ("beta: 0.1", "beta: {attack: lie}", "a value, or one other setting's values and what goes with each"),
        ("beta: 0.1", "beta: {attack: {lie: [1]}}", "a number, a text, true or false is expected"),
        ("seeds: [0, 1]", "seeds: []", ":9: seeds=[]: list should have at least 1 item"),
        ("seeds:", "seed:", "seed: there is no such key; did you mean 'seeds'?"),
        ("seeds:", "paper: nowhere.csv\nseeds:", ":9: paper='nowhere.csv': there is no such file"),
        ("methods: [FedLAW]", "methods: [FedLaw]", ":11: method='FedLaw': methods are FedLAW, FedAVG"),
        ("over: attack", "over: seed", ":13: 'seed' is none of the settings that runs vary: attack, byzantine"),
        ("num-rounds", "num_rounds", ":3: num_rounds: settings are written num-rounds"),
        ("task: digits", "task: digits, data_dir: x", ":3: data_dir: settings are written data-dir"),
        ("byzantine: 2}", "byzantine: []}", "a value or a list of values is expected"),
        ("byzantine: 2}", "byzantine:}", "a value or a list of values is expected"),
        ("beta: 0.1", "beta: 1e-2", "this is a text to YAML; written with a point, 1.0e-2, it is a number"),
        (
            "task: digits",
            "task: mnist",
            ":3: task='mnist' needs data-dir, the folder torchvision keeps its files in; say",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_one_sentence_with_its_line(tmp_path, old, new, said):
    assert old in SMALL
    with pytest.raises(DocumentError) as error:
        read(tmp_path, SMALL.replace(old, new, 1))
    assert any(f"small.yaml{said}" in line or said in line for line in str(error.value).splitlines())
    assert len(set(str(error.value).splitlines())) == len(str(error.value).splitlines())


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_of_this_project_can_be_run(path, tmp_path):
    found = Experiment.read(path, {"data-dir": str(tmp_path)})
    assert found.runs and "fedlaw grid experiments/" + path.name in path.read_text()


def test_mnist_core_is_what_was_promised():
    core = Experiment.read(ROOT / "experiments" / "mnist-core.yaml", {"data-dir": str(ROOT)})
    at_40 = {(run.method, run.values["attack"]) for run in core.runs if run.values["byzantine"] == 0.4}
    attacks = ("label_flipping", "inverse_gradient", "backdoor", "double", "lie")
    methods = ("FedLAW", "FedLAW, Algorithm 1", "FedAVG", "Bulyan", "Trimmed Mean")
    true_labels = "FedLAW, Algorithm 1, true labels"
    others_too = ("Bulyan, pool of 40", "FedLAW, beta 0.0001, true labels")
    double = [run for run in core.runs if run.values["attack"] == "double"]
    assert {run.method for run in double if run.values["global-parameter"] == "perturbed"} == {*methods, *others_too}
    lie = [run for run in core.runs if run.values["attack"] == "lie"]
    assert {run.method for run in lie if run.values["lie-over"] == "parameters"} == {*methods, *others_too}
    assert at_40 == {
        *((method, attack) for method in (*methods, *others_too) for attack in attacks),
        *((true_labels, attack) for attack in ("label_flipping", "backdoor")),
        ("ideal", "label_flipping"),
    }
    assert all(run.values.get("knowledge") == "omniscient" for run in lie)
    others = {(run.method, run.values["attack"], run.values["byzantine"]) for run in core.runs} - {
        (*x, 0.4) for x in at_40
    }
    assert others == {
        (method, attack, fraction)
        for method, attack in ((true_labels, "label_flipping"), ("FedLAW, Algorithm 1", "inverse_gradient"))
        for fraction in (0.1, 0.2, 0.3)
    }
    full = Experiment.read(ROOT / "experiments" / "mnist-full.yaml", {"data-dir": str(ROOT)})
    assert {run.key for run in core.runs} <= {run.key for run in full.runs}  # so that nothing is done twice


def test_the_papers_tables_are_whole():
    cells = read_paper(ROOT / "experiments" / "paper" / "accuracy.csv")
    assert len(cells) == 1440
    assert cells["mnist", "label_flipping", "0.9", "0.4", "FedLAW"] == (87.45, 0.26)
    with (ROOT / "experiments" / "paper" / "detection.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 256


# -- the table ------------------------------------------------------------------------------------------------------


def test_a_row_is_on_disk_when_append_returns_and_read_back_as_it_was(tmp_path):
    with opened(tmp_path / "t.csv") as table:
        table.append({"method": "A, B", "settings": "q=0.9", "accuracy": 0.25, "caught": None})
        assert read_rows(tmp_path / "t.csv") == table.rows
    (row,) = read_rows(tmp_path / "t.csv")
    assert (row["method"], row["accuracy"], row["caught"]) == ("A, B", "0.25", "")


def test_a_line_that_a_kill_cut_short_is_cut_off_and_its_run_done_again(tmp_path):
    path = tmp_path / "t.csv"
    with opened(path) as table:
        table.append({"method": "A", "settings": "q=0.1"})
        table.append({"method": "B", "settings": "q=0.2"})
    path.write_bytes(path.read_bytes()[:-9])
    assert [row["method"] for row in read_rows(path)] == ["A"]
    with opened(path) as table:
        assert table.done == {("A", "q=0.1")}
        table.append({"method": "C", "settings": "q=0.3"})
    assert [row["method"] for row in read_rows(path)] == ["A", "C"]


def test_a_tear_within_a_character_is_a_cut_off_line_too(tmp_path):
    path = tmp_path / "t.csv"
    with opened(path) as table:
        table.append({"method": "A", "settings": "q=0.1"})
        table.append({"method": "\N{GREEK SMALL LETTER BETA}=0.1", "settings": "q=0.2"})
    content = path.read_bytes()
    path.write_bytes(content[: content.index("\N{GREEK SMALL LETTER BETA}".encode()) + 1])
    assert [row["method"] for row in read_rows(path)] == ["A"]


@pytest.mark.parametrize("content", [b"no newline", b"\xff\xfe\n", ",".join(FIELDS).encode() + b"\nA,B\n"])
def test_what_is_no_table_is_refused_by_its_grid_and_passed_over_by_others(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(TableError), opened(tmp_path / "t.csv"):
        pass
    assert (tmp_path / "t.csv").read_bytes() == content
    assert found_elsewhere(tmp_path / "other.csv") == {}


def test_two_grids_cannot_write_one_table(tmp_path):
    with opened(tmp_path / "t.csv"), pytest.raises(TableError, match="another process is adding to it"):
        opened(tmp_path / "t.csv").__enter__()
    with opened(tmp_path / "t.csv"):
        pass


def test_a_file_with_other_columns_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(TableError, match="its columns are a, b"), opened(path):
        pass
    assert path.read_text() == "a,b\n1,2\n"


def test_a_table_may_have_columns_of_its_own(tmp_path):
    path = tmp_path / "t.csv"
    with opened(path, ("a", "b")) as table:
        table.append({"a": 1, "b": 0.5})
        table.append({"a": 2})
    path.write_bytes(path.read_bytes()[:-1])
    with opened(path, ("a", "b")) as table:
        assert table.rows == [{"a": "1", "b": "0.5"}]
        table.append({"a": 3})
    assert read_rows(path, ("a", "b")) == [{"a": "1", "b": "0.5"}, {"a": "3", "b": ""}]
    assert found_elsewhere(tmp_path / "other.csv") == {}


# -- settings that were renamed ---------------------------------------------------------------------------------------

OLD_NAMES = SMALL.replace("beta: 0.1", "beta: 0.1, memory: 1.0, coalition-distance: {attack: {label_flipping: 0.05}}")
OLD_NAMES = OLD_NAMES.replace("byzantine: 2}", "byzantine: 2, watch: [true, false]}").replace(
    "over: attack", "over: watch"
)
TODAYS_NAMES = (
    OLD_NAMES.replace("memory", "score-decay").replace("coalition-", "cluster-").replace("watch", "relearn-on-conflict")
)


def test_a_run_is_the_same_run_under_the_names_of_the_release_before(tmp_path):
    old, new = read(tmp_path, OLD_NAMES), read(tmp_path, TODAYS_NAMES)
    assert [(run.key, run.name, run.values) for run in old.runs] == [
        (run.key, run.name, run.values) for run in new.runs
    ]
    assert len({run.key for run in new.runs}) == 16 and (old.axes, old.figures) == (new.axes, new.figures)
    text = next(run.text for run in new.runs if run.method == "FedLAW" and run.values["attack"] == "label_flipping")
    assert " cluster-distance=0.05 " in text and " score-decay=1.0 " in text
    assert recorded(text).split() == sorted(recorded(text).split())
    assert {"coalition-distance=0.05", "memory=1.0", "watch=true"} <= set(recorded(text).split())
    assert recorded(recorded(text)) == recorded(text)


def test_what_was_done_under_an_old_name_is_done_and_keeps_its_name_and_row(tmp_path):
    plan = read(tmp_path, TODAYS_NAMES)
    path = tmp_path / "results" / "small.csv"
    with opened(path) as table:
        for run in plan.runs:  # as release 0.1 left it: old names, a file a run
            figures = {"accuracy": 0.5, "attack": run.values["attack"], "seed": run.seed, "run": run.name}
            table.append({**figures, "method": run.method, "settings": recorded(run.text), "held": 0})
            write_points([Point(0, 0, 0.5, 0.5, None, None, None, ())], path.with_suffix("") / f"{run.name}.csv")
    before = path.read_bytes()
    assert b"memory=1.0" in before and b"score-decay" not in before
    result = grid(tmp_path / "small.yaml", *where_to(tmp_path))
    assert result.exit_code == 0 and "16 done, 0 to do" in result.output, result.output
    assert path.read_bytes() == before
    assert set(Curves(path).read()) == {run.name for run in plan.runs} and not Curves(path).folder.exists()
    other = written(tmp_path, OLD_NAMES.replace("seeds: [0, 1]", "seeds: [1]"), "other")
    assert "8 done (8 of them for other experiments), 0 to do" in grid(other, *where_to(tmp_path)).output
    assert [cell.seeds for cell in cells_of(plan, read_rows(path))] == [(0, 1)] * 8


def test_a_file_with_an_old_name_is_warned_of_with_its_line_and_what_is_wrong_is_found_there(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "flwr"):
        read(tmp_path, OLD_NAMES)
    path = tmp_path / "small.yaml"
    assert [record.message for record in caplog.records] == [
        f"{path}:5: memory is now called score-decay; the next release takes only that",
        f"{path}:5: coalition-distance is now called cluster-distance; the next release takes only that",
        f"{path}:8: watch is now called relearn-on-conflict; the next release takes only that",
    ]
    with pytest.raises(DocumentError, match=r"small.yaml:5: score-decay=7"):
        read(tmp_path, OLD_NAMES.replace("memory: 1.0", "memory: 7"))
    caplog.clear()
    read(tmp_path, TODAYS_NAMES.replace("FedAVG:", "memory:"))  # a method may have any name
    assert not caplog.records
    assert len(command._chosen(read(tmp_path, OLD_NAMES), ["watch=True", "memory=1.0"])) == 4


# -- who made it ------------------------------------------------------------------------------------------------------


def test_a_row_says_whether_the_code_had_been_changed_and_results_are_no_code(tmp_path):
    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.org")
        subprocess.run(["git", "-C", tmp_path, *who, *arguments], check=True, capture_output=True)

    assert commit_of(tmp_path) == ""
    (tmp_path / "package").mkdir()
    for name in ("package/code.py", "results.csv"):
        (tmp_path / name).write_text("1\n")
    git("init")
    git("add", "--all")
    git("commit", "--message", "one")
    assert re.fullmatch(" [0-9a-f]{7,}", commit_of(tmp_path / "package"))
    (tmp_path / "results.csv").write_text("2\n")
    assert not commit_of(tmp_path / "package").endswith("+")
    (tmp_path / "package" / "code.py").write_text("2\n")
    assert commit_of(tmp_path / "package").endswith("+")


# -- several at a time ----------------------------------------------------------------------------------------------

GB = 2**30


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """Runs that do what their method says; the scheduler's tests are about processes, not about learning."""
    monkeypatch.setattr(parallel, "work", fake_runs.work)
    (tmp_path / "pids").mkdir()

    def begin(*methods, at_once=2, available=lambda: GB):
        planned = [PlannedRun(method, {}, seed) for seed, method in enumerate(methods)]
        return run_several(planned, Place({}, tmp_path, tmp_path, 1), at_once, available)

    begin.go = (tmp_path / "go").touch
    return begin


def test_two_runs_are_under_way_where_memory_allows(fakes):
    messages = fakes("one", "two", "three")
    first = [next(messages)[0].method for _ in range(2)]
    assert first == ["one", "two"]  # and neither has ended: nothing has told them to
    fakes.go()
    assert sorted(run.method for run, message in messages if "row" in message) == ["one", "three", "two"]


def test_where_memory_is_short_one_waits_for_the_other(fakes):
    fakes.go()
    said = [(run.method, *message) for run, message in fakes("one", "two", available=lambda: 1000)]
    assert [method for method, *_ in said] == ["one", "one", "two", "two"]


def test_a_run_whose_process_dies_is_reported_and_the_others_go_on(fakes):
    fakes.go()
    ended = {run.method: message for run, message in fakes("dies", "fails", "one") if "round" not in message}
    assert ended["dies"] == {"lost": 9} and ended["fails"] == {"error": "ValueError: no"} and "row" in ended["one"]


def test_what_was_started_is_ended_when_the_grid_is(fakes, tmp_path):
    messages = fakes("waits", "waits")
    assert {next(messages)[0].seed, next(messages)[0].seed} == {0, 1}
    pids = [int(path.name) for path in (tmp_path / "pids").iterdir()]
    assert len(pids) == 2 and all(map(psutil.pid_exists, pids))
    messages.close()
    assert not any(map(psutil.pid_exists, pids))


# -- the whole ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The small experiment, done once: its folder and what was printed."""
    folder = tmp_path_factory.mktemp("grid")
    result = grid(written(folder), *where_to(folder))
    assert result.exit_code == 0, result.output
    return folder, result.output


def test_every_row_is_the_verdict_on_the_run_its_settings_name(done):
    rows = read_rows(done[0] / "results" / "small.csv")
    assert len(rows) == 8
    for row in rows[:3]:
        found = verdict(run_of(parsed(shlex.split(row["settings"]))))
        assert float(row["accuracy"]) == pytest.approx(found.accuracy, abs=1e-6)
        assert (row["caught"], row["wronged"]) == (str(found.caught), str(found.wrongly_excluded))
        assert row["f1"] == f"{found.detection['f1']:.7g}"


def test_every_round_of_a_run_is_in_its_curve(done):
    curves = Curves(done[0] / "results" / "small.csv").read()
    for row in read_rows(done[0] / "results" / "small.csv"):
        points = curves[row["run"]]
        learned = row["method"] == "FedLAW"
        assert [point.exchanges for point in points] == ([0, 2, 4, 5] if learned else [0, 1, 2, 3])
        assert points[-1].accuracy == pytest.approx(float(row["accuracy"]), abs=1e-5)
        assert str(points[-1].caught) == row["caught"] and len(points[-1].weights) == 8


def test_a_second_grid_has_nothing_to_do_and_changes_no_row(done):
    before = (done[0] / "results" / "small.csv").read_bytes()
    result = grid(done[0] / "small.yaml", *where_to(done[0]))
    assert "8 done, 0 to do" in result.output
    assert (done[0] / "results" / "small.csv").read_bytes() == before


def test_what_one_experiment_has_done_another_takes_over(done):
    other = written(done[0], SMALL.replace("seeds: [0, 1]", "seeds: [1]"), "other")
    result = grid(other, *where_to(done[0]))
    assert "4 done (4 of them for other experiments), 0 to do" in result.output
    rows = read_rows(done[0] / "results" / "other.csv")
    theirs, ours = (Curves(done[0] / "results" / f"{name}.csv").read() for name in ("small", "other"))
    assert ours == {row["run"]: theirs[row["run"]] for row in rows}


def test_only_the_runs_asked_for_are_done(tmp_path):
    result = grid(written(tmp_path), *where_to(tmp_path), "--only", "attack=label_flipping", "--only", "method=FedAVG",
                  "--only", "seed=1")  # fmt: skip
    assert [row["method"] for row in read_rows(tmp_path / "results" / "small.csv")] == ["FedAVG"], result.output
    nobody = grid(written(tmp_path), *where_to(tmp_path), "--only", "attack=lie")
    said = "--only attack=lie: no run of small has that; there are inverse_gradient, label_flipping"
    assert nobody.exit_code and str(nobody.exception) == said


def test_of_one_name_any_of_the_values_asked_for_is_done(tmp_path):
    plan, pairs = read(tmp_path), ["seed=1", "method=FedLAW", "attack=label_flipping", "attack=inverse_gradient"]
    assert [run.values["attack"] for run in command._chosen(plan, pairs)] == ["inverse_gradient", "label_flipping"]


def test_show_runs_nothing(tmp_path):
    result = grid(written(tmp_path), *where_to(tmp_path), "--show")
    assert result.exit_code == 0 and not (tmp_path / "results").exists()


def test_a_run_that_fails_is_named_with_its_command_and_the_others_are_done(tmp_path):
    text = SMALL.replace("task: digits, num-silos: 8", "task: mnist, num-silos: 8").replace(
        "attack: [inverse_gradient, label_flipping]", "attack: inverse_gradient, task: [mnist, digits]"
    )
    result = grid(written(tmp_path, text), *where_to(tmp_path), "--data-dir", tmp_path)
    assert result.exit_code == 1
    assert {row["task"] for row in read_rows(tmp_path / "results" / "small.csv")} == {"digits"}
    assert "holds no MNIST" in result.output
    again = "fedlaw run --engine batched --silos-per-batch 64 attack=inverse_gradient"
    assert again in result.output and f"data-dir={tmp_path}" in result.output
    tracebacks = list((tmp_path / "runs" / "small").glob("*/traceback.txt"))
    assert len(tracebacks) == 4 and all("errors.NotThere: " in path.read_text() for path in tracebacks)


@pytest.mark.slow  # about half a minute
def test_a_grid_killed_in_mid_run_goes_on_where_it_stopped_and_leaves_nobody_behind(tmp_path, done):
    table = tmp_path / "results" / "small.csv"
    command = [
        Path(sys.executable).with_name("fedlaw"),
        "grid",
        written(tmp_path),
        *where_to(tmp_path),
        "--at-once",
        "1",
    ]
    running = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(read_rows(table)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    first = read_rows(table)
    assert 2 <= len(first) < 8 and {row["run"] for row in first} <= set(Curves(table).read())
    while _alive(running.pid) and time.monotonic() < deadline:  # a run notices at its next round
        time.sleep(0.1)
    assert not _alive(running.pid)
    assert grid(tmp_path / "small.yaml", *where_to(tmp_path)).exit_code == 0
    rows = read_rows(table)
    assert rows[: len(first)] == first and len(rows) == 8
    uninterrupted = {row["run"]: row for row in read_rows(done[0] / "results" / "small.csv")}
    for row in rows:
        same = uninterrupted[row["run"]]
        assert {**row, "seconds": ""} == {**same, "seconds": ""}
    packed, theirs = Curves(table).packed, Curves(done[0] / "results" / "small.csv").packed
    assert packed.read_bytes() == theirs.read_bytes()  # each curve once, and as if nothing had been killed
    assert not Curves(table).folder.exists()


@pytest.mark.slow
def test_the_smoke_experiment_runs_as_the_readme_says(tmp_path):
    command = [
        Path(sys.executable).with_name("fedlaw"),
        "grid",
        ROOT / "experiments" / "smoke.yaml",
        *where_to(tmp_path),
    ]
    out = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout
    rows = read_rows(tmp_path / "results" / "smoke.csv")
    assert len(rows) == 16 and not any(row["failed"] for row in rows) and "16 of 16" in out
    assert len(list((tmp_path / "results").glob("smoke-*.svg"))) == 5
    under = [row for row in rows if row["attack"] == "inverse_gradient" and row["byzantine"] == "0.2"]
    accuracy = {
        name: mean(float(row["accuracy"]) for row in under if row["method"] == name) for name in ("FedLAW", "FedAVG")
    }
    assert accuracy["FedLAW"] > accuracy["FedAVG"] + 0.1  # 89 and 69 per cent when this was written


def _alive(session):
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.Error, ProcessLookupError):
            continue
    return found


# -- sums and pictures ----------------------------------------------------------------------------------------------


def test_a_cell_is_the_mean_and_deviation_over_seeds_beside_the_papers(tmp_path):
    (tmp_path / "paper.csv").write_text(
        "task,attack,q,byzantine,method,mean,deviation\ndigits,label_flipping,0.6,0.25,FedAVG,70.5,1.5\n"
    )
    text = SMALL.replace("byzantine: 2}", "byzantine: 0.25, q: 0.6}").replace("seeds:", "paper: paper.csv\nseeds:")
    plan = read(tmp_path, text)
    accuracies = {0: 0.5, 1: 0.75}
    rows = [
        {**dict.fromkeys(FIELDS, ""), "method": run.method, "settings": run.text, "task": "digits", "q": "0.6",
         "attack": str(run.values["attack"]), "byzantine": "0.25", "seed": str(run.seed),
         "accuracy": str(accuracies[run.seed])}
        for run in plan.runs
    ]  # fmt: skip
    cells = {(cell.method, cell.axes["attack"]): cell for cell in cells_of(plan, rows)}
    cell = cells["FedAVG", "label_flipping"]
    assert (cell.seeds, cell.accuracy) == ((0, 1), mean([50, 75]))
    assert cell.deviation == pytest.approx(stdev([50, 75]))
    assert cell.difference == pytest.approx(62.5 - 70.5)
    assert cells["FedLAW", "label_flipping"].paper is None
    lines = markdown(plan, list(cells.values())).splitlines()
    assert "| label_flipping | FedAVG | 0 1 |  | 62.5 ± 17.7 | 70.5 ± 1.5 | -8.0 |" in next(
        x for x in lines if "70.5" in x
    )
    assert common_settings(plan)["task"] == "digits" and "attack" not in common_settings(plan)
    other_rows = [{**row, "accuracy": "nan" if row["seed"] == "1" else row["accuracy"], "failed": "no"} for row in rows]
    assert all((cell.seeds, cell.stuck) == ((0,), 1) for cell in cells_of(plan, other_rows))
    assert own_settings(plan)["FedAVG"] == {"strategy": "fedavg"}
    held = [{**row, "held": "2" if row["seed"] == "1" else "0", "precision": "0.5"} for row in rows]
    assert "| FedAVG | 0 1 (2 rounds skipped) |" in markdown(plan, cells_of(plan, held))
    assert {cell.method: cell.detection for cell in cells_of(plan, held)} == {
        "FedLAW": {"precision": 0.5},
        "FedAVG": {},
    }
    one = cells_of(plan, [row for row in rows if row["seed"] == "0"])
    assert all(cell.deviation is None and cell.seeds == (0,) for cell in one)


def test_the_results_page_says_what_the_results_say():
    page = results.PAGE.read_text(encoding="utf-8")
    assert results.with_tables(page) == page  # else: python -m benchmarks.results
    changed = page.replace("| FedLAW |", "| FedLAW, ours |")
    assert changed != page and results.with_tables(changed) == page


def test_every_committed_row_belongs_to_a_run_and_has_its_curve():
    for path in sorted((ROOT / "results").glob("*.csv")):
        if path.stem.endswith("-summary"):
            continue
        plan = Experiment.read(ROOT / "experiments" / path.name.replace(".csv", ".yaml"), {"data-dir": str(ROOT)})
        known = {run.key: run.name for run in plan.runs}
        curves = Curves(path).read()
        assert set(curves) == {row["run"] for row in read_rows(path)}
        for row in read_rows(path):
            assert known[key_of(row)] == row["run"]
            points = curves[row["run"]]
            assert points[-1].accuracy == pytest.approx(float(row["accuracy"]), abs=1e-5)


def test_points_say_who_is_excluded_and_what_weight_attackers_have():
    one = ExchangeTotals()
    run = Run.of([
        RunStarted(settings={"num-silos": 4}, attackers={"silo 0": "lie", "silo 2": "lie"}),
        Evaluated(round=0, metrics={"accuracy": 0.1}),
        ReplyRejected(round=1, exchange=1, silo="silo 0", reason="not finite"),
        RoundEnded(round=1, skipped=False, exchanges=(one, one), silos=("silo 1", "silo 2", "silo 3"),
                   weights=(0.0, 0.25, 0.75)),
        Evaluated(round=1, metrics={"accuracy": 0.5, "validation-accuracy": 0.4}),
        RoundEnded(round=2, skipped=True, exchanges=(one,)),
    ])  # fmt: skip
    assert points_of(run) == [
        Point(0, 0, 0.1, None, None, None, None, ()),
        Point(1, 2, 0.5, 0.4, 0.25, 1, 1, (pytest.approx(math.nan, nan_ok=True), 0.0, 0.25, 0.75)),
        Point(2, 3, None, None, None, None, None, ()),
    ]


def test_a_run_in_which_an_honest_silo_failed_is_no_result():
    started = RunStarted(settings={}, attackers={"silo 2": "silencing"})
    hostile, slow, failed = (
        NoReply(round=3, exchange=1, silo=silo, reason=reason)
        for silo, reason in (("silo 2", _ERROR), ("silo 1", "no answer"), ("silo 1", _ERROR))
    )
    worker._no_silo_failed(Run.of([started, hostile, slow]))
    with pytest.raises(RuntimeError, match="silo 1 failed in round 3: error 2: MemoryError"):
        worker._no_silo_failed(Run.of([started, failed]))


def test_a_method_whose_name_begins_with_the_papers_stands_beside_its_value(tmp_path):
    plan = Experiment.read(ROOT / "experiments" / "mnist-core.yaml", {"data-dir": str(tmp_path)})
    rows = [
        {**dict.fromkeys(FIELDS, ""), "method": run.method, "settings": run.text, "task": "mnist", "q": "0.9",
         "attack": run.values["attack"], "byzantine": "0.4", "seed": "0", "accuracy": "0.5"}
        for run in plan.runs
        if run.method == "FedLAW, Algorithm 1" and run.values["byzantine"] == 0.4
    ]  # fmt: skip
    cells = {cell.axes["attack"]: cell for cell in cells_of(plan, rows)}
    assert (cells["lie"].paper, cells["lie"].paper_detection) == (70.1, {})  # the paper's Table 7 has no LIE
    theirs = {"precision": 0.921, "recall": 0.948, "f1": 0.934, "detection_accuracy": 0.946}
    assert (cells["label_flipping"].paper, cells["label_flipping"].paper_detection) == (87.45, theirs)


def test_every_committed_summary_is_that_of_its_rows(tmp_path):
    for path in sorted((ROOT / "results").glob("*-summary.csv")):
        name = path.stem.removesuffix("-summary")
        plan = Experiment.read(ROOT / "experiments" / f"{name}.yaml", {"data-dir": str(ROOT)})
        write_summary(cells_of(plan, read_rows(path.with_name(f"{name}.csv"))), tmp_path / path.name)
        assert (tmp_path / path.name).read_text() == path.read_text(), f"fedlaw grid experiments/{name}.yaml --show"


def test_a_curve_is_read_back_as_it_was_written(tmp_path):
    points = [Point(0, 0, 0.125, 0.25, None, None, None, ()), Point(1, 2, None, None, 0.5, 3, 0, (0.5, 0.0, 0.5))]
    write_points(points, tmp_path / "curves" / "a.csv")
    assert read_points(tmp_path / "curves" / "a.csv") == points
    assert [path.name for path in (tmp_path / "curves").iterdir()] == ["a.csv"]


def some_curves(path, runs):
    """Adds a curve a run, as a grid does; what they are read back as."""
    points = {run: [Point(i, 2 * i, n / 8, None, 0.5, 3, 0, (0.5, math.inf)) for i in range(3)]
              for n, run in enumerate(runs)}  # fmt: skip
    for run in runs:
        write_points(points[run], Curves(path).folder / f"{run}.csv")
    return points


A, B, C = "aaaaaaaaaa", "bbbbbbbbbb", "0123456789"


def test_the_curves_of_an_experiment_are_one_file_that_any_tool_reads(tmp_path):
    path = tmp_path / "t.csv"
    points = some_curves(path, [A, B, C])
    assert Curves(path).read() == points
    Curves(path).pack()
    assert [found.name for found in tmp_path.iterdir()] == ["t-curves.csv.gz"]
    with gzip.open(tmp_path / "t-curves.csv.gz", "rt", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["run"] for line in lines] == [C] * 3 + [A] * 3 + [B] * 3
    assert [line["exchanges"] for line in lines] == ["0", "2", "4"] * 3
    assert Curves(path).read() == points


def test_the_same_curves_give_the_same_bytes_whenever_and_in_whatever_steps_they_were_packed(tmp_path, monkeypatch):
    some_curves(tmp_path / "one.csv", [A, B, C])
    Curves(tmp_path / "one.csv").pack()
    monkeypatch.setattr(time, "time", lambda: 1e9)
    for run in (B, A, C):
        points = some_curves(tmp_path / "one.csv", [A, B, C])
        write_points(points[run], Curves(tmp_path / "two.csv").folder / f"{run}.csv")
        Curves(tmp_path / "two.csv").pack()
    one, two = (tmp_path / f"{name}-curves.csv.gz" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(("owner", "step"), [(os, "replace"), (Path, "unlink"), (Path, "rmdir")])
def test_a_grid_killed_while_it_packs_loses_no_curve_and_has_none_twice(tmp_path, monkeypatch, owner, step):
    class Killed(BaseException):
        pass

    def killed(*arguments, **named):
        raise Killed

    path = tmp_path / "t.csv"
    some_curves(path, [A])
    Curves(path).pack()
    points = some_curves(path, [A, B, C])
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, step, killed)
        Curves(path).pack()
    assert Curves(path).read() == points
    Curves(path).pack()
    assert Curves(path).read() == points and not Curves(path).folder.exists()
    with gzip.open(Curves(path).packed, "rt") as file:
        assert len(file.readlines()) == 1 + 3 * 3


def test_a_run_that_is_done_again_replaces_its_curve(tmp_path):
    path = tmp_path / "t.csv"
    points = some_curves(path, [A, B])
    Curves(path).pack()
    again = [Point(0, 0, 1.0, None, None, None, None, ())]
    write_points(again, Curves(path).folder / f"{A}.csv")
    assert Curves(path).read() == {A: again, B: points[B]}
    Curves(path).pack()
    assert Curves(path).read() == {A: again, B: points[B]}


def test_curves_can_be_read_while_another_process_packs_them(tmp_path):
    path = tmp_path / "t.csv"
    code = (
        "import sys; from pathlib import Path; from fedlaw_flwr.studies.curves import *\n"
        "path = Path(sys.argv[1])\n"
        "for n in range(120):\n"
        "    Curves(path).add(f'{n:010x}', [['0', '0', '0.5', '', '', '', '', '']])\n"
        "    Curves(path).pack()\n"
    )
    packing = subprocess.Popen([sys.executable, "-c", code, path])
    seen, reads = set(), 0
    while packing.poll() is None:
        now = set(Curves(path).read())
        assert seen <= now  # what was there once is never missing
        seen, reads = now, reads + 1
    assert packing.returncode == 0 and reads > 10 and len(Curves(path).read()) == 120


@pytest.mark.parametrize(
    "damage",
    [lambda x: x[:-20], lambda x: x[:15] + b"?" + x[16:], lambda x: b"", lambda x: b"run,round\n" + x,
     lambda x: gzip.compress(b"a,b\n"), lambda x: gzip.compress(gzip.decompress(x)[:-12])],
)  # fmt: skip
def test_a_damaged_file_of_curves_is_refused_and_left_as_it_is(tmp_path, damage):
    path = tmp_path / "t.csv"
    some_curves(path, [A, B])
    Curves(path).pack()
    packed = Curves(path).packed
    packed.write_bytes(damage(packed.read_bytes()))
    before = packed.read_bytes()
    some_curves(path, [C])
    for use in (Curves(path).read, Curves(path).pack):
        with pytest.raises(TableError, match=r"t-curves\.csv\.gz: "):
            use()
    assert packed.read_bytes() == before and (Curves(path).folder / f"{C}.csv").exists()


def test_what_else_lies_in_the_folder_stays_there(tmp_path):
    path = tmp_path / "t.csv"
    some_curves(path, [A])
    (Curves(path).folder / "notes.csv").write_text("mine")
    Curves(path).pack()
    assert [found.name for found in Curves(path).folder.iterdir()] == ["notes.csv"] and list(Curves(path).read()) == [A]


def test_the_figures_a_file_asks_for_are_drawn_the_same_each_time(done, tmp_path):
    plan = Experiment.read(done[0] / "small.yaml", {})
    table = done[0] / "results" / "small.csv"
    rows, curves = read_rows(table), Curves(table).read()
    drawn = draw_all(plan, rows, curves, tmp_path)
    assert [path.name for path in drawn] == ["small-1.svg", "small-2.svg", "small-3.svg"]
    for path in drawn:
        assert path.read_bytes() == (done[0] / "results" / path.name).read_bytes()
    assert len({path.read_bytes() for path in drawn}) == 3


def test_attackers_are_red_and_accuracy_is_the_mean_over_seeds(done):
    from matplotlib.figure import Figure as Canvas

    plan = Experiment.read(done[0] / "small.yaml", {})
    points = Curves(done[0] / "results" / "small.csv").read()
    curves = [(run, points[run.name]) for run in plan.runs]
    chosen = [each for each in curves if each[0].method == "FedLAW" and each[0].values["attack"] == "label_flipping"]
    axes = Canvas().subplots()
    (lines,) = drawing.lines_of(Figure(kind="accuracy"), chosen).values()
    drawing._weights(axes, lines, plan.figures[0])
    hostile = [number for number, line in enumerate(axes.get_lines()) if line.get_color() == drawing._ATTACKER]
    assert hostile == sorted(chosen[0][0].settings({}).attack_plan().attackers)
    axes = Canvas().subplots()
    drawing._accuracy(axes, lines, plan.figures[1])
    (line,) = axes.get_lines()
    ends = [100 * points[-1].accuracy for _, points in chosen]
    assert line.get_ydata()[-1] == pytest.approx(mean(ends))


def test_what_differs_in_more_than_the_seed_is_a_line_of_its_own_and_a_name_has_one_colour(tmp_path):
    lie = "  - {attack: lie, byzantine: 2, knowledge: [colluders, omniscient]}"
    silencing = "  - {attack: silencing, byzantine: 2, method: FedAVG}"
    text = SMALL.replace("runs:", f"runs:\n{silencing}").replace("seeds:", f"{lie}\nseeds:")
    plan = read(tmp_path, text)
    panels = drawing.lines_of(Figure(kind="accuracy", panels=["attack"]), [(run, []) for run in plan.runs])
    names = {title: [line.name for line in lines] for title, lines in panels.items()}
    assert names["attack silencing"] == ["FedAVG"] and names["attack label_flipping"] == ["FedLAW", "FedAVG"]
    both = [f"{method}, knowledge {whose}" for whose in ("colluders", "omniscient") for method in ("FedLAW", "FedAVG")]
    assert names["attack lie"] == both
    assert all(len(line.curves) == 2 for lines in panels.values() for line in lines)  # the seeds
    style = {(line.name, line.colour, line.dashes) for lines in panels.values() for line in lines}
    assert len(style) == len({name for name, *_ in style}) == 6
    text = SMALL.replace("byzantine: 2}", "byzantine: [2, 3]}")
    sweep = Figure(kind="sweep", over="byzantine", panels=["attack"])
    for lines in drawing.lines_of(sweep, [(run, []) for run in read(tmp_path, text).runs]).values():
        assert [(line.name, len(line.curves)) for line in lines] == [
            ("FedLAW", 4),
            ("FedAVG", 4),
        ]  # max-byzantine follows


LONG = "FedLAW with a name that somebody chose for a table, and that is longer than a picture of one panel is wide"


def pictures(tmp_path):
    """Every kind of figure under short and long names, one panel and several, few methods and many."""
    points = [Point(i, 2 * i, 0.5, 0.5, 0.1, 1, 0, tuple([0.125] * 8)) for i in range(4)]
    many = "\n".join(f"  {LONG} {n}: {{strategy: fedavg, lr: 0.{n + 1}}}" for n in range(5))
    long = SMALL.replace("  FedAVG: {strategy: fedavg}", many).replace("FedLAW:", "FedLAW, Algorithm 1, true labels:")
    long = long.replace("byzantine: 2}", "byzantine: 2, knowledge: [colluders, omniscient]}").replace(
        ", methods: [FedLAW]", ""
    )
    for text in (SMALL, long):  # two methods and six
        curves = [(run, points) for run in read(tmp_path, text).runs]
        for kind in ("accuracy", "exchanges", "weights", "attackers", "sweep") if text == long else ("accuracy",):
            for panels in ([], ["attack"], *([["attack", "method"]] if kind == "accuracy" else [])):
                title = f"{kind}: {LONG}" if text == long else ""
                figure = Figure(kind=kind, panels=panels, title=title, over="attack" if kind == "sweep" else "")
                yield drawing.canvas_of(figure, curves)


def test_nothing_that_is_written_in_a_picture_is_cut(tmp_path):
    seen = 0
    for canvas in pictures(tmp_path):
        canvas.draw_without_rendering()
        for legend in canvas.legends:
            for text in legend.get_texts():
                box = text.get_window_extent()
                assert box.x0 >= 0 and box.x1 <= canvas.bbox.width, text.get_text()
                assert box.y0 >= 0 and box.y1 <= canvas.bbox.height, text.get_text()
                assert all(box.y1 <= axes.bbox.y0 for axes in canvas.axes), text.get_text()
                seen += 1
        written_above = [text for text in (*canvas.texts, *(axes.title for axes in canvas.axes)) if text.get_text()]
        for title in written_above:
            box = title.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= canvas.bbox.width and box.y1 <= canvas.bbox.height, title.get_text()
        assert all(axes.bbox.height > 150 for axes in canvas.axes)  # of 290 a panel: the names take none of it
    assert seen > 60


@pytest.mark.parametrize("path", sorted((ROOT / "results").glob("*-curves.csv.gz")), ids=lambda path: path.name)
def test_a_method_has_one_colour_in_all_panels_and_lines_of_a_panel_can_be_told_apart(path):
    name = path.name.removesuffix("-curves.csv.gz")
    plan = Experiment.read(ROOT / "experiments" / f"{name}.yaml", {"data-dir": str(ROOT)})
    for panels in ([], ["attack"], ["byzantine"], ["attack", "byzantine", "q"]):
        for figure in (Figure(kind="accuracy", panels=panels), *plan.figures):
            lines = drawing.lines_of(figure, [(run, []) for run in plan.runs])
            colours: dict[str, set[str]] = {}
            for own in lines.values():
                for line in own:
                    colours.setdefault(line.curves[0][0].method, set()).add(line.colour)
                if figure in plan.figures:
                    assert len({(line.colour, line.dashes) for line in own}) == len(own)
            assert all(len(found) == 1 for found in colours.values())
            if len(colours) <= len(drawing.COLOURS):
                assert len(set.union(*colours.values())) == len(colours)


def test_a_variation_of_a_method_has_the_methods_colour_and_dashes_of_its_own(tmp_path):
    lie = "  - {attack: lie, byzantine: 2, knowledge: [colluders, omniscient]}"
    plan = read(tmp_path, SMALL.replace("seeds:", f"{lie}\nseeds:"))
    panels = drawing.lines_of(Figure(kind="accuracy", panels=["attack"]), [(run, []) for run in plan.runs])
    lines = {line.name: line for own in panels.values() for line in own}
    ours = [lines[name] for name in ("FedLAW", "FedLAW, knowledge colluders", "FedLAW, knowledge omniscient")]
    assert len({line.colour for line in ours}) == 1 and len({line.dashes for line in ours}) == 3
    assert lines["FedAVG"].colour == lines["FedAVG, knowledge colluders"].colour != lines["FedLAW"].colour
