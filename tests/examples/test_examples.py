"""The examples run, and what their pages claim holds: what is told before training, who is without weight, how good."""

import difflib
import importlib.util
import logging
import re
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from fedlaw_flwr.core.projection import project
from fedlaw_flwr.core.simplex import Simplex

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
HONEST, FAULTY = ("alder", "birch", "cedar"), ("hazel", "maple", "rowan")


@pytest.fixture(scope="module", autouse=True)
def loggers_as_they_were():
    """The commands quieten Flower's log and the data checks' for their process, which is this one."""
    loggers = [logging.getLogger(name) for name in ("flwr", "fedlaw.silo")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def load(name, module="run"):
    """A module of an example, as its command would find it."""
    if str(EXAMPLES / name) not in sys.path:
        sys.path.append(str(EXAMPLES / name))
    known = f"{name}_{module}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, EXAMPLES / name / f"{module}.py")
        sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]


def command(name, *arguments):
    """What the example's command returns and prints."""
    with redirect_stdout(StringIO()) as printed:
        found = load(name).main([str(argument) for argument in arguments])
    return found, printed.getvalue()


def on_the_page(name, beginning):
    """The page's line that begins so, where it shows what the command prints."""
    (line,) = [line for line in (EXAMPLES / name / "README.md").read_text().splitlines() if line.startswith(beginning)]
    return line


def figures(line):
    """Its numbers; its words without them."""
    number = r"-?\d+\.?\d*(?:e[+-]?\d+)?"
    return [float(found) for found in re.findall(number, line)], " ".join(re.sub(number, "#", line).split())


def assert_as_on_the_page(name, lines, within):
    for line in lines:
        words = line.split("  ")[0]
        (numbers, text), (expected, page) = figures(line), figures(on_the_page(name, f"{words} "))
        assert text == page and numbers == pytest.approx(expected, abs=within)


# hospitals


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory):
    """The federation, its outcomes and what was printed, at full size."""
    folder = tmp_path_factory.mktemp("hospitals") / "run"
    (federation, outcomes), printed = command("hospitals", "--folder", folder)
    return folder, federation, outcomes, printed


def weights(outcome, names):
    return {name: outcome.run.weight(f"silo {index}") for index, name in enumerate(names)}


def names_of(federation):
    return [hospital.name for hospital in federation.hospitals]


def test_the_hospitals_hold_every_real_record_once_and_only_their_own_faults(hospitals):
    from sklearn.datasets import load_breast_cancer

    folder, federation, _, _ = hospitals
    real = load_breast_cancer(as_frame=True)
    tables = {name: pd.read_csv(folder / "data" / name / "records.csv") for name in names_of(federation)}
    rows = {name: table["patient"].str.rpartition("-")[2].astype(int) for name, table in tables.items()}
    assert sorted(pd.concat(rows.values())) == list(range(569))
    wrong = {
        name: np.mean((table["diagnosis"] == "malignant").to_numpy() != (real.target[rows[name]] == 0).to_numpy())
        for name, table in tables.items()
    }
    assert wrong == {"alder": 0, "birch": 0, "cedar": 0, "hazel": 1, "maple": 0.3, "rowan": 0}
    for name, table in tables.items():
        times = (table[real.feature_names] / real.data.loc[rows[name]].to_numpy()).median().round(6)
        other = {column: factor for column, factor in times.items() if factor != 1}
        kinds = {"radius": 1e3, "perimeter": 1e3, "area": 1e6}
        expected = {c: f for c in real.feature_names for kind, f in kinds.items() if kind in c}
        assert other == (expected if name == "rowan" else {})


def test_the_broken_export_is_named_before_training_and_nobody_else_is(hospitals):
    _, federation, _, printed = hospitals
    columns = [f"{kind} {what}" for kind in ("mean", "worst") for what in ("radius", "perimeter", "area")]
    columns += [f"{what} error" for what in ("radius", "perimeter", "area")]
    own = {name: said for name, said in federation.noticed.items() if said}
    assert list(own) == ["rowan"]
    for sentences in (own["rowan"], federation.agreed):
        assert sorted(re.search("column '(.*?)'", said)[1] for said in sentences) == sorted(columns)
        assert all("another unit?" in said for said in sentences)
    assert all(said.startswith("rowan: ") for said in federation.agreed)
    before, _, after = printed.partition("After training")
    assert "rowan: records.csv: column 'mean radius': median is" in before and "weight" in after


def test_with_three_faulty_of_six_one_faulty_hospital_must_carry_weight_and_the_rest_carry_none(hospitals):
    _, federation, outcomes, printed = hospitals
    found = weights(outcomes["fedlaw"], names_of(federation))
    left = 1 - 3 * Simplex.for_federation(6, 2).t
    assert all(found[name] == pytest.approx((1 - left) / 3) for name in HONEST)
    assert sorted(found[name] for name in FAULTY) == pytest.approx([0, 0, left])
    assert found["rowan"] == found["hazel"] == 0
    assert f"the other {left:.3f} must go to a faulty one" in printed


def test_a_faulty_hospital_is_told_why_it_has_no_weight(hospitals):
    *_, printed = hospitals
    assert re.search(r"hazel: .*its loss is far above the others'", printed)
    assert re.search(r"rowan: .*its loss is far above the others'", printed)
    assert "maple is faulty and carries weight" in printed


def test_fedlaw_ranks_honest_records_right_where_one_export_ruins_the_average(hospitals):
    _, _, outcomes, _ = hospitals
    assert outcomes["fedlaw"].auc > 0.97 > 0.95 > outcomes["fedavg"].auc
    assert outcomes["fedlaw"].own_auc["silo 3"] < 0.1  # hazel, against its own wrong labels


def test_the_auc_printed_is_that_of_the_model_in_the_run_folder(hospitals):
    from safetensors.numpy import load_file
    from sklearn.metrics import roc_auc_score

    folder, federation, outcomes, _ = hospitals
    model, test = load_file(folder / "fedlaw" / "model.safetensors"), federation.honest_test()
    hidden = np.maximum(test.inputs.numpy() @ model["1.weight"].T + model["1.bias"], 0)
    benign, malignant = (hidden @ model["3.weight"].T + model["3.bias"]).T
    assert len(test) == 61
    assert roc_auc_score(test.targets.numpy(), malignant - benign) == pytest.approx(outcomes["fedlaw"].auc)


def test_the_hospitals_page_shows_what_is_printed(hospitals):
    *_, printed = hospitals
    rows = [line for line in printed.splitlines() if line.split("  ")[0] in (*HONEST, *FAULTY)]
    rows += [line for line in printed.splitlines() if line.startswith("the honest hospitals'")]
    assert len(rows) == 7
    assert_as_on_the_page("hospitals", rows, within=0.05)


def test_a_repaired_export_leaves_both_mislabelled_hospitals_without_weight():
    (federation, outcomes), printed = command("hospitals", "--repaired", "--strategy", "fedlaw", "--rounds", 10)
    found = weights(outcomes["fedlaw"], names_of(federation))
    assert not any(federation.noticed.values()) and not federation.agreed
    assert found["hazel"] == found["maple"] == 0
    assert all(found[name] > 0.1 for name in (*HONEST, "rowan"))
    assert "can carry all of it" in printed


def test_settings_are_chosen_on_records_that_are_neither_trained_on_nor_the_test(hospitals):
    from fedlaw_flwr.records import tabular

    folder, *_ = hospitals
    path, options = str(folder / "data" / "alder" / "records.csv"), {"schema": str(folder / "data" / "schema.yaml")}
    final, choosing = tabular.task(path, options), load("hospitals", "choose").task(path, {**options, "choose-seed": 0})

    def rows(examples):
        return {row.tobytes() for row in examples.inputs.numpy()}

    kept, validation = rows(choosing.load_train()), rows(choosing.load_test())
    assert kept | validation == rows(final.load_train()) and not kept & validation
    assert not (kept | validation) & rows(final.load_test())
    assert len(validation) == pytest.approx(0.25 * len(final.load_train()), abs=2)


# image_silos


@pytest.mark.slow  # ten seconds
def test_a_silo_with_its_folders_mixed_up_ends_without_weight_and_the_others_with_some(tmp_path):
    outcomes, printed = command(
        *("image_silos", "--side", 8, "--per-class", 60, "--rounds", 6, "--strategy", "fedlaw"),
        *("--folder", tmp_path / "run"),
    )
    found = [outcomes["fedlaw"].run.weight(f"silo {index}") for index in range(5)]
    assert found[4] == 0 and min(found[:4]) > 0.1
    others = [outcomes["fedlaw"].own_accuracy[f"silo {index}"] for index in range(4)]
    assert outcomes["fedlaw"].own_accuracy["silo 4"] < min(others)  # against its own wrong names
    assert re.search(r"silo 4: .*its loss is far above the others'", printed)
    assert "silo 4" in (tmp_path / "run" / "fedlaw" / "report.html").read_text()


@pytest.mark.slow
def test_the_image_silos_page_shows_what_is_printed_and_fedlaw_is_ahead():
    outcomes, printed = command("image_silos")
    rows = [
        line for line in printed.splitlines() if line.startswith(("silo ", "honest silos")) and "weight" not in line
    ]
    assert len(rows) == 6
    assert_as_on_the_page("image_silos", rows, within=3.0)
    assert outcomes["fedlaw"].accuracy > outcomes["fedavg"].accuracy > 0.9


def test_every_image_is_dealt_once_to_train_or_test_and_only_one_silo_has_other_names(tmp_path):
    module = load("image_silos")
    source = module.write_digits(tmp_path / "digits", 8)
    classes = module.classes_in(source)
    silos = module.deal(source, classes, tmp_path / "silos", 50, np.random.default_rng(0))
    dealt = [path for silo in silos for path in silo.rglob("*.png")]
    names = [path.name for path in dealt]
    assert len(names) == len(set(names)) == 10 * 50
    true = {path.name: path.parent.name for path in source.rglob("*.png")}
    wrong = {path.relative_to(tmp_path).parts[1] for path in dealt if true[path.name] != path.parent.name}
    assert wrong == {"silo-4"}
    assert all(true[path.name] != path.parent.name for path in silos[4].rglob("*.png"))
    tests = [path for path in dealt if "test" in path.parts]
    assert 0.15 * len(dealt) < len(tests) <= 0.2 * len(dealt)


def test_any_folder_of_class_folders_does(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, colour in (("cat", 60), ("dog", 190)):
        (tmp_path / "animals" / name).mkdir(parents=True)
        for index in range(60):
            pixels = np.clip(rng.normal(colour, 20, (20, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "animals" / name / f"{name}{index}.jpg")
    outcomes, printed = command(
        *("image_silos", "--data", tmp_path / "animals", "--channels", 3, "--rounds", 3, "--strategy", "fedlaw")
    )
    assert printed.startswith("2 classes, 5 silos, 3 rounds") and outcomes["fedlaw"].accuracy > 0.9


def test_a_data_folder_without_classes_is_one_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command("image_silos", "--data", tmp_path)
    assert "a folder for each of two or more classes is expected" in capsys.readouterr().err


def test_what_a_silo_got_by_chance_in_round_1_it_keeps_at_beta_0_01_and_loses_at_0_1():
    """The page's sum: three silos at the cap, a mixed-up one with the rest, a fifth without weight; losses 7 and 0."""
    simplex = Simplex.for_federation(5, 1)
    left = 1 - 3 * simplex.t
    assert round(left, 3) == 0.182
    before, losses = np.array([simplex.t] * 3 + [left, 0.0]), np.array([0.0, 0, 0, 7, 0])
    kept, lost = (project(before - beta * losses, simplex.s, simplex.t) for beta in (0.01, 0.1))
    assert kept == pytest.approx(before)
    assert lost[3] == 0 < lost[4]


# drop_in


def test_before_and_after_differ_in_the_import_and_the_strategy_line_alone():
    before, after = ((EXAMPLES / "drop_in" / "digits_app" / f"{name}.py").read_text() for name in ("before", "after"))
    changed = [
        line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-" and line[2:].strip()
    ]
    assert changed == [
        "- from flwr.serverapp.strategy import FedAvg",
        "+ from fedlaw_flwr import FedLAW",
        "-     strategy = FedAvg(fraction_evaluate=0.0)",
        "+     strategy = FedLAW(max_byzantine=2)",
    ]
    page = (EXAMPLES / "drop_in" / "README.md").read_text()
    assert all(f"{line[0]}{line[2:]}" in page.splitlines() for line in changed)


@pytest.fixture
def one_thread():
    """In the app's clients, which leave torch's threads as they are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow  # a quarter of a minute
def test_the_one_line_saves_the_app_from_a_client_that_claims_a_million_records(one_thread):
    found, _ = command("drop_in", "--rounds", 6)
    undisturbed, opposite, boasting = found.values()
    assert boasting[0] < 0.3 and boasting[1] > 0.8
    assert opposite[0] > 0.8 and opposite[1] > 0.8  # alone it hardly hurts an average, as the page says
    assert undisturbed[0] > 0.8 and undisturbed[1] > 0.8


@pytest.mark.slow
def test_the_drop_in_page_shows_what_is_printed(one_thread):
    _, printed = command("drop_in")
    assert_as_on_the_page("drop_in", printed.splitlines()[1:], within=3.0)


@pytest.mark.parametrize("server", ["before", "after"])
def test_the_same_files_are_an_app_that_flower_packs_whichever_server_it_names(server, tmp_path):
    import io
    import shutil
    import zipfile

    from flwr.cli.build import build_fab_from_disk
    from flwr.cli.config_utils import load_and_validate

    app = shutil.copytree(EXAMPLES / "drop_in", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    project = app / "pyproject.toml"
    project.write_text(project.read_text().replace("digits_app.after:app", f"digits_app.{server}:app"))
    config, warnings = load_and_validate(project, check_module=True)
    assert config["tool"]["flwr"]["app"]["components"]["serverapp"] == f"digits_app.{server}:app" and not warnings
    packed = zipfile.ZipFile(io.BytesIO(build_fab_from_disk(app))).namelist()
    modules = {f"digits_app/{name}.py" for name in ("__init__", "after", "before", "client_app", "task")}
    assert {name for name in packed if name.endswith(".py")} == modules


@pytest.mark.slow
def test_flower_runs_the_app_with_its_one_line(tmp_path):
    from fedlaw_flwr.simulation.flwr_run import superlink

    model = tmp_path / "model.pt"
    with superlink(tmp_path) as flower:
        federation = ["--federation-config", "num-supernodes=10 client-resources-num-cpus=1"]
        changed = ["--run-config", f'final-model="{model}" num-server-rounds=3']
        command = ["run", str(EXAMPLES / "drop_in"), "local-fedlaw", "--stream", *federation, *changed]
        flower.start(command).wait(timeout=300)
    assert "FedLAW: 10 silos, at most 2 Byzantine" in flower.log.read_text()
    assert set(torch.load(model, weights_only=True)) == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}
