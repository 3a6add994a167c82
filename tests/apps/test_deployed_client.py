"""A real silo's ClientApp: its own configuration decides what it learns and whether it drills; the server only how."""

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedlaw_flwr.apps import deployed
from fedlaw_flwr.apps.byzantine import drill, simulated
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.silo.config import SiloConfig

SHARE = {"num-partitions": 5, "partition": "dirichlet", "concentration": 1.0, "seed": 3, "task": "digits"}


@pytest.fixture
def settings():
    return Settings.read(
        {"num-silos": 5, "partition": "dirichlet", "concentration": 1.0, "seed": 3, "max-byzantine": 1}
    )


def message(settings: Settings, **config) -> Message:
    from fedlaw_flwr.tasks import load_task

    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, 1, 7
    model = load_task("digits", settings.partition_plan(), settings.seed).build_model(settings.seed)
    content = RecordDict(
        {
            "arrays": ArrayRecord(model.state_dict()),
            "config": ConfigRecord({"server-round": 2, "exchange": 1, "lr": 0.1, **config}),
        }
    )
    found = Message(content, dst_node_id=7, message_type="train")
    found.metadata.__dict__["_message_id"] = "m"
    return found


def context(run_config, **node_config) -> Context:
    return Context(1, 7, node_config, RecordDict(), dict(run_config))


def trained(app, settings, run_config, **node_config):
    reply = app(message(settings), context(run_config, **node_config))
    arrays = reply.content["arrays"].to_numpy_ndarrays()
    return np.concatenate([a.ravel() for a in arrays]), float(reply.content["metrics"]["loss"])


def test_a_real_silo_replies_what_its_twin_in_a_simulation_does_bit_for_bit(settings):
    own = SiloConfig(name="bonn", partition_id=3, **{k.replace("-", "_"): v for k, v in SHARE.items()}).node_config()
    real, real_loss = trained(deployed.app, settings, settings.as_config(), **own)
    twin, twin_loss = trained(
        simulated.app, settings, settings.as_config(), **{"partition-id": 3, "engine": "in-process"}
    )
    assert np.array_equal(real, twin) and real_loss == twin_loss


def test_the_run_configuration_cannot_choose_a_real_silos_task_data_or_device(settings):
    asked = {"task": "mnist", "data-dir": "/etc", "device": "cuda", "download": True, "seed": 9, "num-silos": 99}
    own = deployed.own_context(context({**asked, "lr": 0.5, "loss-at": "trained"}, **SHARE)).run_config
    assert own == {
        "lr": 0.5,
        "loss-at": "trained",
        "task": "digits",
        "num-silos": 5,
        "partition": "dirichlet",
        "concentration": 1.0,
        "seed": 3,
        "max-byzantine": 0,
    }


def test_the_run_configuration_cannot_make_a_real_silo_attack(settings):
    node = {**SHARE, "partition-id": 3}
    honest, _ = trained(deployed.app, settings, settings.as_config(), **node)
    hostile = {**settings.as_config(), "attack": "inverse_gradient", "byzantine": 4, "drills": "bonn:sign_flip"}
    for app in (deployed.app, drill.app):
        assert np.array_equal(trained(app, settings, hostile, **node)[0], honest)


def test_a_drill_attacks_because_the_silos_own_configuration_says_so(settings):
    node = {**SHARE, "partition-id": 3}
    received = message(settings).content["arrays"].to_numpy_ndarrays()
    theta = np.concatenate([a.ravel() for a in received])
    honest, _ = trained(deployed.app, settings, settings.as_config(), **node)
    forged, _ = trained(drill.app, settings, settings.as_config(), **node, attack="inverse_gradient")
    np.testing.assert_allclose(forged - theta, -(honest - theta), atol=1e-6)


def test_a_run_configuration_of_nonsense_is_an_error_of_its_own(settings):
    with pytest.raises(ValueError, match="lr='fast'"):
        deployed.app(message(settings), context({"lr": "fast"}, **SHARE, **{"partition-id": 3}))
