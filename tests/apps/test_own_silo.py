"""Silos that hold their own data: what is learned is theirs to say, who learns something else is told beforehand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from own_task import Points

from fedlaw_flwr.apps import own
from fedlaw_flwr.apps.experiment import run_experiment
from fedlaw_flwr.config.settings import Settings, SettingsError
from fedlaw_flwr.engines.in_process import InProcessGrid
from fedlaw_flwr.events.folder import RunFolder
from fedlaw_flwr.events.record import OWN_TASK, Run
from fedlaw_flwr.events.types import Evaluated, EvaluatedBySilos, NotAdmitted, Warned
from fedlaw_flwr.events.verdict import verdict
from fedlaw_flwr.silo.config import DRILL, HONEST, OWN_DATA, SiloConfig
from fedlaw_flwr.tasks import OWN
from fedlaw_flwr.tasks.initial import Initial, load_initial, save_initial

AGREED = {"columns": "x, y in metres; label"}


def write_points(path, seed, count=100):
    """Two clouds that a line divides."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    points = rng.normal(size=(count, 2)) + np.where(labels[:, None] == 1, 2.0, -2.0)
    np.savetxt(path, np.column_stack([points, labels]), delimiter=",")
    return path


def config(path, partition, **options):
    return {
        "name": f"silo-{partition}",
        "task": "own_task:task",
        "data-path": str(path),
        "partition-id": partition,
        "num-partitions": 6,
        **options,
    }


@pytest.fixture
def silos(tmp_path):
    return [config(write_points(tmp_path / f"{i}.csv", i), i) for i in range(6)]


@pytest.fixture
def settings(tmp_path):
    model = Points(write_points(tmp_path / "any.csv", 99), {}).build_model(0)
    save_initial(
        tmp_path / "initial.safetensors",
        {key: value.numpy() for key, value in model.state_dict().items()},
        "points",
        AGREED,
    )
    return Settings.read(
        {
            "task": "own",
            "initial-model": str(tmp_path / "initial.safetensors"),
            "num-silos": 6,
            "max-byzantine": 1,
            "num-rounds": 3,
            "quorum": 4,
        }
    )


def run(tmp_path, settings, silos):
    folder = tmp_path / "run"
    grid = InProcessGrid(own.app, len(silos), settings.as_config(), node_configs=silos)
    with RunFolder.create(replace(settings, run_dir=str(folder))) as opened:
        run_experiment(grid, settings, opened)
    return Run.read(folder)


def of(run, kind):
    return [event for event in run.events if isinstance(event, kind)]


def test_silos_learn_from_their_own_files_and_measure_the_model_themselves(tmp_path, settings, silos):
    done = run(tmp_path, settings, silos)
    measured = of(done, EvaluatedBySilos)
    assert [event.round for event in measured] == [1, 2, 3] and not of(done, Evaluated)
    last = measured[-1]
    assert sorted(last.by_silo["accuracy"]) == [f"silo {i}" for i in range(6)]
    shares = [last.weights[silo] for silo in last.by_silo["accuracy"]]
    told = list(last.by_silo["accuracy"].values())
    assert last.metrics["accuracy"] == pytest.approx(np.average(told, weights=shares)) and min(told) > 0.9
    assert len(last.by_class) == 2 and min(last.by_class) > 0.8 and sorted(last.by_class_of) == sorted(last.weights)
    found = verdict(done)  # nobody knows who is honest
    assert (found.caught, found.wrongly_excluded, found.weight_on_attackers) == (None, None, None)
    assert found.accuracy == last.metrics["accuracy"] and "silos" in found.measured
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_the_reader_of_runs_knows_such_a_run_by_the_same_word_as_the_settings():
    assert OWN_TASK == OWN


def test_a_silo_that_learns_something_else_is_named_and_never_trained(tmp_path, settings, silos):
    silos[2]["unit"] = "feet"
    done = run(tmp_path, settings, silos)
    (away,) = of(done, NotAdmitted)
    assert "columns" in away.reason and "feet" in away.reason and away.round == 1
    assert all(len(event.silos) == 5 and "silo 2" not in event.silos for event in done.rounds)
    assert done.events.index(away) < done.events.index(done.rounds[0])


def test_what_is_odd_about_a_silos_columns_is_a_warning_of_the_run_and_it_takes_part(tmp_path, settings, silos):
    silos[4]["alarm"] = "column 'x' is mostly missing"
    done = run(tmp_path, settings, silos)
    assert [event.reason for event in of(done, Warned)] == [
        "node 6: column 'x' is mostly missing"
    ]  # no name is known yet
    assert all(len(event.silos) == 6 for event in done.rounds)


def test_with_too_many_that_learn_something_else_the_run_ends_before_its_first_round(tmp_path, settings, silos):
    from fedlaw_flwr.events.folder import RunFailed

    for silo in silos[:3]:
        silo["unit"] = "feet"
    with pytest.raises(RunFailed, match="the run ends before round 1: 3 silos still take part and 4 are needed"):
        run(tmp_path, settings, silos)


def ask(kind, node_config, run_config, content):
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, 1, 7
    message = Message(content, dst_node_id=7, message_type=kind)
    message.metadata.__dict__["_message_id"] = "m"
    return own.app(message, Context(1, 7, node_config, RecordDict(), run_config))


def test_the_run_configuration_cannot_choose_an_own_silos_task_data_or_options(tmp_path, silos):
    write_points(tmp_path / "other.csv", 50, count=5)
    hostile = {"task": "mnist", "data-dir": "/etc", "data-path": str(tmp_path / "other.csv"), "unit": "feet"}
    reply = ask("query", silos[0], hostile, RecordDict({"config": ConfigRecord({"unit": "feet"})}))
    assert json.loads(reply.content["description"]["description"]) == AGREED
    arrays = ArrayRecord(Points(silos[0]["data-path"], {}).build_model(0).state_dict())
    content = RecordDict({"arrays": arrays, "config": ConfigRecord({"lr": 0.1, "server-round": 1, "exchange": 1})})
    assert ask("train", silos[0], hostile, content).content["metrics"]["num-examples"] == 80


def test_which_client_answers_is_decided_by_what_the_silo_says_it_learns():
    assert SiloConfig(name="a", task="own_task:task").app == OWN_DATA
    assert SiloConfig(name="a", task="tabular").app == OWN_DATA
    assert SiloConfig(name="a", task="digits").app == HONEST
    assert SiloConfig(name="a", task="digits", attack="ipm").app == DRILL
    assert SiloConfig(name="a", task="tabular", client="x.y:app").app == "x.y:app"
    own_config = SiloConfig(name="a", task="tabular", options={"file": "x.csv"}).node_config()
    assert "q" not in own_config and own_config["file"] == "x.csv"
    with pytest.raises(ValueError, match=r"options\.seed: that is a key of silo.yaml itself"):
        SiloConfig(name="a", task="tabular", options={"seed": 3})
    with pytest.raises(ValueError, match="a drill needs a public data set"):
        SiloConfig(name="a", task="tabular", attack="ipm")


def test_an_initial_model_comes_back_as_it_was_in_its_order(tmp_path):
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3).T, "a": np.array(7, dtype=np.int64)}
    save_initial(tmp_path / "m", arrays, "points", AGREED)
    found = load_initial(tmp_path / "m")
    assert isinstance(found, Initial) and list(found.arrays) == ["b", "a"]
    for key, value in arrays.items():
        assert np.array_equal(found.arrays[key], value) and found.arrays[key].dtype == value.dtype
    assert found.task == "points" and found.description == AGREED
    with pytest.raises(FileExistsError):
        save_initial(tmp_path / "m", arrays, "points", AGREED)


def test_a_file_that_is_no_model_is_one_sentence(tmp_path):
    (tmp_path / "junk").write_bytes(b"\x08\0\0\0\0\0\0\0not json")
    with pytest.raises(ValueError, match="no safetensors file can be read there"):
        load_initial(tmp_path / "junk")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"task": "digits"}, "the task 'own' begins from the file"),
        ({"initial-model": ""}, "the task 'own' begins from the file"),
        ({"initial-model": "/nowhere"}, "there is no such file"),
        ({"attack": "ipm"}, "a run never makes real silos attack"),
    ],
)
def test_settings_of_own_data_that_cannot_hold_are_one_sentence(settings, changed, sentence):
    with pytest.raises(SettingsError, match=sentence):
        Settings.read({**settings.as_config(), **changed})


def test_what_a_net_draws_while_it_trains_is_its_silos_own_and_leaves_the_process_alone(silos):
    import torch

    from fedlaw_flwr.tasks.models import seeded
    from fedlaw_flwr.training.local import Job, local_round

    points = Points(silos[0]["data-path"], {})

    def trained(silo, exchange):
        layers = (torch.nn.Linear, 2, 8), (torch.nn.Dropout, 0.5), (torch.nn.Linear, 8, 2)
        model = seeded(lambda: torch.nn.Sequential(*(layer(*sizes) for layer, *sizes in layers)), 0)
        job = Job(silo, points.load_train(), "", 0, 1, exchange, 0.1, 1, 80, "received", True)
        return local_round(model, points, job).state["2.weight"].clone()

    before = torch.get_rng_state()
    first = trained(0, 1)
    assert torch.equal(trained(0, 1), first)
    assert not torch.equal(trained(1, 1), first) and not torch.equal(trained(0, 2), first)
    assert torch.equal(torch.get_rng_state(), before)
