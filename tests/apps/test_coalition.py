"""Attacks through the real ClientApp: colluders that share what they would have replied honestly, in any process."""

import hashlib
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from finished_runs import exchanged, finished, update
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedlaw_flwr.apps.byzantine import coalition
from fedlaw_flwr.apps.byzantine.mod import attack_mod
from fedlaw_flwr.apps.byzantine.simulated import app
from fedlaw_flwr.apps.honest import app as honest_app
from fedlaw_flwr.apps.honest import train
from fedlaw_flwr.attacks.lie import z_max
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.events.types import NoReply

LR = 0.1  # what `exchanged` asks for
THREE_OF_TEN = {"num-silos": 10, "local-epochs": 1, "byzantine": 3, "max-byzantine": 3}


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """A temporary folder of the test's own, for its coalitions' files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def settings_for(attack, **more):
    return Settings.read(THREE_OF_TEN | {"attack": attack} | {k.replace("_", "-"): v for k, v in more.items()})


def answers(client, silo, settings, **config):
    """g and f of one silo in one exchange."""
    reply, arrays = exchanged(client, silo, settings, **config)
    loss = reply.content["metrics"]["loss"]
    return (update(reply, arrays) / LR if "arrays" in reply.content else None), loss


def honest_ones(members, settings, **config):
    """The members' honest updates and losses, without any file."""
    found = [answers(honest_app, silo, settings, **config) for silo in members]
    return np.array([g for g, _ in found]), np.array([loss for _, loss in found])


def files(folder, what="loss"):
    return sorted(folder.glob(f"fedlaw-coalitions-*/run-*/*.{what}.npy"))


def test_lie_is_the_same_from_every_member_and_made_of_their_honest_updates():
    settings = settings_for("lie")
    members = settings.attack_plan().members("lie")
    g, f = honest_ones(members, settings)
    for member, loss in zip(members, f, strict=True):
        forged, reported = answers(app, member, settings)
        np.testing.assert_allclose(forged, g.mean(axis=0) + z_max(10, 3) * g.std(axis=0), atol=2e-5)
        assert reported == loss
    assert z_max(10, 3) > 0.1 and g.std(axis=0).max() > 0.01


def test_the_coalition_trains_once_in_an_exchange_whoever_comes_first(temporary, monkeypatch):
    computed, compute = [], coalition._compute
    monkeypatch.setattr(coalition, "_compute", lambda *args: (computed.append(args[3]), compute(*args)))
    settings = settings_for("ipm")
    members = settings.attack_plan().members("ipm")
    for member in (*members[::-1], *members):
        answers(app, member, settings)
    assert computed == list(members)
    assert len(files(temporary)) == len(files(temporary, "trained")) == 3
    answers(app, members[1], settings, exchange=2)
    assert len(computed) == 6 and {path.name[:4] for path in files(temporary)} == {"1-2-"}


def test_files_of_earlier_exchanges_are_removed_and_other_runs_never_read(temporary):
    settings = settings_for("lie")
    member = min(settings.attack_plan().attackers)
    for number in (1, 2, 3):
        answers(app, member, settings, **{"server-round": number})
        assert {path.name.split("-")[0] for path in files(temporary)} == {str(number)}
    other = settings_for("lie", seed=1)
    member = min(other.attack_plan().attackers)
    g, _ = honest_ones(other.attack_plan().members("lie"), other)
    np.testing.assert_allclose(answers(app, member, other)[0], g.mean(axis=0) + z_max(10, 3) * g.std(axis=0), atol=2e-5)
    assert len(list(temporary.glob("fedlaw-coalitions-*/run-*"))) == 2


def test_another_model_or_step_in_the_same_round_is_another_coalition(temporary):
    settings = settings_for("ipm")
    members = settings.attack_plan().members("ipm")
    for lr in (0.1, 0.02):
        reply, arrays = exchanged(app, members[0], settings, lr=lr)
        honest = [update(*exchanged(honest_app, silo, settings, lr=lr)) for silo in members]
        np.testing.assert_allclose(update(reply, arrays), -0.1 * np.mean(honest, axis=0), atol=1e-6)
    assert len(files(temporary)) == 6


def test_a_stragglers_answer_after_the_next_round_began_is_the_same(temporary):
    settings = settings_for("min_max")
    first, other, _ = settings.attack_plan().members("min_max")
    before, _ = answers(app, first, settings)
    answers(app, other, settings, **{"server-round": 2})
    np.testing.assert_array_equal(answers(app, first, settings)[0], before)


def test_where_the_loss_alone_is_asked_the_forged_loss_still_goes_out(temporary):
    settings = settings_for("mimic_misaligned", loss_at="received")
    members = settings.attack_plan().members("mimic_misaligned")
    _, f = honest_ones(members, settings, exchange=2, reply="loss")
    for member in members:
        g, loss = answers(app, member, settings, exchange=2, reply="loss")
        assert g is None and loss == pytest.approx(max(0.0, f.mean() - 0.3 * f.std()), rel=1e-12)
    assert not files(temporary, "trained") and len(files(temporary)) == 3
    # a member asked for its update in the same exchange has the same losses before it
    assert answers(app, members[0], settings, exchange=2)[1] == loss


def test_a_forged_median_is_of_honest_losses_though_the_coalition_trains_on_flipped_labels():
    settings = settings_for("loss_median")
    members = settings.attack_plan().members("loss_median")
    _, f = honest_ones(members, settings)
    flipped = answers(app, members[0], settings_for("label_flipping"))[0]
    forged, loss = answers(app, members[0], settings)
    assert loss == pytest.approx(0.999 * np.median(f), rel=1e-12)
    np.testing.assert_allclose(forged, flipped, atol=2e-5)


def test_in_a_mix_each_attack_is_a_coalition_of_its_own():
    settings = settings_for("ipm:2,lie:1")
    members = settings.attack_plan().members("ipm")
    g, _ = honest_ones(members, settings)
    assert len(members) == 2
    np.testing.assert_allclose(answers(app, members[1], settings)[0], -0.1 * g.mean(axis=0), atol=2e-5)


def test_double_through_the_app():
    settings = settings_for("double")
    first, second, third = settings.attack_plan().members("double")
    for number in (1, 2, 5):
        config = {"server-round": number}
        (a, b, c), _ = honest_ones((first, second, third), settings, **config)
        got = [answers(app, silo, settings, **config)[0] for silo in (first, second, third)]
        sign = 1 if number == 1 else -1
        np.testing.assert_allclose(got[0], sign * a, atol=2e-5)
        np.testing.assert_allclose(got[2], sign * c, atol=2e-5)
        if number < 5:
            np.testing.assert_array_equal(got[1], b)
    reply, arrays = exchanged(app, second, settings, **{"server-round": 5})
    theta, psi = (
        np.concatenate([value.numpy().ravel() for value in record.values()]).astype(np.float64)
        for record in (arrays, reply.content["arrays"])
    )
    assert psi.var() == pytest.approx(1.5 * theta.var(), rel=0.06)
    assert psi.mean() == pytest.approx(-5 * theta.mean(), abs=5 * psi.std() / np.sqrt(psi.size))


def test_a_silo_that_goes_silent_in_exchange_2_loses_the_weight_it_earned(tmp_path):
    settings = settings_for("dodging")
    attacker = min(settings.attack_plan().attackers)
    late, early = {"server-round": 6}, {"server-round": 5}
    honest, _ = answers(honest_app, attacker, settings, **late)
    np.testing.assert_allclose(answers(app, attacker, settings, **late)[0], -4 * honest, atol=5e-5)
    reply, _ = exchanged(app, attacker, settings, exchange=2, **late)
    assert reply.has_error() and reply.error.reason == "dodging: no answer"
    assert not exchanged(app, attacker, settings, exchange=2, **early)[0].has_error()
    run = finished(tmp_path, attack="dodging", byzantine=2, max_byzantine=2, num_rounds=7)
    silent = [event for event in run.missing if isinstance(event, NoReply)]
    assert {(event.round, event.exchange) for event in silent} == {(6, 2), (7, 2)}
    assert max(run.weights[5][silo] for silo in run.attackers) > 0.1
    assert all(run.weights[later].get(silo, 0.0) == 0.0 for later in (6, 7) for silo in run.attackers)


def deployed(silo, settings, **node):
    """The reply of a silo outside any simulation, whose node config is this."""
    _, arrays = exchanged(honest_app, silo, settings)
    config = ConfigRecord({"server-round": 1, "exchange": 1, "lr": LR})
    message = Message(RecordDict({"arrays": ArrayRecord(arrays.to_torch_state_dict()), "config": config}), 2, "train")
    message.metadata.__dict__["_message_id"] = "of a deployment"
    client = ClientApp(mods=[attack_mod])
    client.train()(train)
    context = Context(1, 2, {"partition-id": silo, **node}, RecordDict(), settings.as_config())
    return update(client(message, context), arrays) / LR


def test_in_a_deployment_only_the_node_config_makes_an_attacker_and_it_colludes_with_nobody():
    settings = settings_for("ipm")
    silo = min(settings.attack_plan().attackers)
    honest, _ = answers(honest_app, silo, settings)
    np.testing.assert_array_equal(deployed(silo, settings), honest)
    np.testing.assert_allclose(deployed(silo, settings, attack="ipm"), -0.1 * honest, atol=2e-5)


def test_a_drill_that_needs_images_fails_in_one_sentence_where_there_are_none():
    with pytest.raises(ValueError, match="task 'breast_cancer' has no images"):
        deployed(0, settings_for("none", task="breast_cancer"), attack="backdoor")


def digest(reply):
    text = hashlib.sha256(repr(reply.content["metrics"]["loss"]).encode())
    for array in reply.content["arrays"].values():
        text.update(array.data)
    return text.hexdigest()


def colludes(folder, members, config, together, answered):
    """A process of its own: answers as each of these members in turn, and says how many trainings it took."""
    tempfile.tempdir = folder
    settings, computed, compute = Settings.read(config), [], coalition._compute
    exchanged(honest_app, members[0], settings)  # the task is loaded: both begin at once, and long enough to meet
    coalition._compute = lambda *args: (computed.append(args[3]), time.sleep(0.1), compute(*args))
    together.wait(60)
    digests = {silo: digest(exchanged(app, silo, settings)[0]) for silo in members}
    answered.put((os.getpid(), digests, len(computed)))


def test_two_processes_racing_for_one_coalition_forge_the_same_replies_as_one_alone(temporary, monkeypatch):
    settings = settings_for("min_max")
    members = settings.attack_plan().members("min_max")
    spawn = multiprocessing.get_context("spawn")
    together, answered, folder = spawn.Barrier(2), spawn.Queue(), temporary / "shared"
    folder.mkdir()
    orders = (members, members[::-1])
    common = (settings.as_config(), together, answered)
    processes = [spawn.Process(target=colludes, args=(str(folder), order, *common)) for order in orders]
    for process in processes:
        process.start()
    (pid, first, trained), (other_pid, second, also_trained) = (answered.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(60)
    assert len({pid, other_pid, os.getpid()}) == 3
    assert trained + also_trained == len(members)
    alone = {silo: digest(exchanged(app, silo, settings)[0]) for silo in members}
    assert first == second == alone


def test_a_leftover_of_a_killed_process_is_not_taken_for_a_result(temporary):
    settings = settings_for("ipm")
    member = min(settings.attack_plan().attackers)
    before, _ = answers(app, member, settings)
    for path in files(temporary)[:1] + files(temporary, "trained")[1:2]:
        path.with_suffix(".unfinished").write_bytes(path.read_bytes()[:20])
        path.unlink()
    np.testing.assert_array_equal(answers(app, member, settings)[0], before)
    assert len(files(temporary)) == len(files(temporary, "trained")) == 3


def test_a_folder_that_another_colluder_removes_meanwhile_harms_nobody(temporary):
    settings = settings_for("ipm")
    first, second, _ = sorted(settings.attack_plan().attackers)
    answers(app, first, settings)
    (home,) = temporary.glob("fedlaw-coalitions-*")
    (home / "run-0-gone").symlink_to(home / "nothing")  # it is listed and is not there
    other = settings_for("ipm", seed=1)
    answers(app, min(other.attack_plan().attackers), other)
    assert len(list(home.glob("run-*"))) == 3
    answers(app, second, settings)


def test_the_files_are_for_this_user_alone_and_hold_no_pickle(temporary):
    settings = settings_for("ipm")
    answers(app, min(settings.attack_plan().attackers), settings)
    (home,) = temporary.glob("fedlaw-coalitions-*")
    assert home.stat().st_mode & 0o077 == 0
    assert all(np.load(path, allow_pickle=False).dtype.kind == "f" for path in Path(home).rglob("*.npy"))
