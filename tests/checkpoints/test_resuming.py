"""What a run is resumed from, and what is refused: damaged checkpoints, other settings, full disks, two servers."""

import errno
import hashlib
import itertools
import json
import os
import shutil

import numpy as np
import pytest
from crashes import ROUNDS, every_instant, resumptions, start, told
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedlaw_flwr import FedLAW
from fedlaw_flwr.checkpoints import store
from fedlaw_flwr.checkpoints.resuming import differences, reopen
from fedlaw_flwr.checkpoints.store import CHECKPOINTS, find, rounds_in
from fedlaw_flwr.core import durable
from fedlaw_flwr.core.durable import InUse, Lock
from fedlaw_flwr.core.errors import AlreadyThere, InputError, NotThere, sentence_of
from fedlaw_flwr.events.folder import EVENTS, MODEL, SETTINGS, RunFolder
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.events.types import Warned
from fedlaw_flwr.ledger.keys import SERVER_KEY, ServerKey
from fedlaw_flwr.ledger.lines import LEDGER
from fedlaw_flwr.ledger.verify import Written, verify


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    monkeypatch.setattr("fedlaw_flwr.strategy.account.Account._report", lambda account: "")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run that completed, and what its server would have left, had it been killed in round 4."""
    place = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedlaw_flwr.strategy.account.Account._report", lambda account: "")
        with every_instant(place / "whole", place / "killed") as copies:
            start(law(place / "whole"))
    in_round_4 = [copy for copy in copies if b'"round": 4, "skipped"' in _events(copy) and _events(copy)[-1:] == b"\n"]
    return place / "whole", in_round_4[0]


def _events(place):
    return (place / EVENTS).read_bytes() if (place / EVENTS).exists() else b""


@pytest.fixture
def killed(runs, tmp_path):
    """What a server killed in round 4 leaves: the checkpoints of rounds 1 to 3, and events of round 4."""
    shutil.copytree(runs[1], tmp_path / "run")
    return tmp_path / "run"


def law(place, **more):
    return FedLAW(**{"max_byzantine": 2, "weight_rounds": 2, "checkpoint": place, **more})


def key_file(path, private=None):
    pem = (private or Ed25519PrivateKey.generate()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(pem)
    return path


def test_three_checkpoints_are_kept_and_nothing_else(runs):
    assert sorted(path.name for path in (runs[0] / CHECKPOINTS).iterdir()) == [
        "begun.json",
        *(f"round-00000{number}.{kind}" for number in (2, 3, 4) for kind in ("json", "safetensors")),
    ]


def test_with_keep_checkpoints_0_there_are_none_and_the_run_cannot_be_resumed(tmp_path):
    start(law(tmp_path / "run", keep_checkpoints=0))
    assert not (tmp_path / "run" / CHECKPOINTS).exists()
    with pytest.raises(InputError, match=r"run kept no checkpoints \(keep-checkpoints=0\)"):
        start(law(tmp_path / "run", keep_checkpoints=0), resume=True)


def test_the_event_says_which_round_is_run_again_and_has_the_lines_that_stand_no_longer(runs, killed):
    written = (killed / EVENTS).read_text().splitlines()
    start(law(killed), resume=True)
    (event,) = resumptions(killed)
    assert (event["round"], event["checkpoint"], event["abandoned-round"]) == (4, 3, 4)
    assert event["abandoned"] and written[-len(event["abandoned"]) :] == event["abandoned"]
    assert all(json.loads(line)["round"] == 4 for line in event["abandoned"])
    assert told(killed) == told(runs[0])
    (line,) = Written.read(killed).of("resumed")
    assert (line["round"], line["abandoned-round"]) == (3, 4)
    run = Run.read(killed)
    assert [one.round for one in run.rounds] == [1, 2, 3, 4] and run.end.status == "completed"


def test_a_run_resumed_many_times_in_one_round_says_so_each_time_and_its_file_does_not_swell(runs, killed):
    key, settings = None, json.loads((killed / SETTINGS).read_text())
    sizes = []
    for _ in range(6):
        folder, _ = reopen(killed, settings, 3, key)
        folder.write(Warned(reason="of round 4"))
        folder._events.close()  # and no end is written: the server is killed
        folder._lock.release()
        sizes.append((killed / EVENTS).stat().st_size)
    assert max(b - a for a, b in itertools.pairwise(sizes[1:])) < 400
    start(law(killed), resume=True)
    assert len(resumptions(killed)) == 7 and told(killed) == told(runs[0])


def tear(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def set_back(path):
    body = json.loads(path.read_text())
    body["state"]["progress"]["n"] = 5
    path.write_text(json.dumps(body))


DAMAGE = {
    "torn": ("json", tear, "it is torn: this is no JSON object of a checkpoint"),
    "edited": ("json", set_back, "it was changed after it was written: its SHA-256 is another"),
    "emptied": ("json", lambda path: path.write_text("[]"), "it is torn"),
    "of another format": ("json", lambda path: _set(path, format=2), "its format is 2, and this release reads 1"),
    "without arrays": ("safetensors", lambda path: path.unlink(), "its arrays are missing"),
    "with torn arrays": ("safetensors", tear, "its arrays are torn"),
    "with edited arrays": ("safetensors", flip, "its arrays are changed after they were written"),
}


def _set(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_refused_with_its_reason_and_the_one_before_it_is_taken(runs, killed, damage):
    kind, spoil, why = DAMAGE[damage]
    spoil(killed / CHECKPOINTS / f"round-000003.{kind}")
    start(law(killed), resume=True)
    (event,) = resumptions(killed)
    assert event["checkpoint"] == 2 and event["round"] == 3 and event["abandoned-round"] == 4
    assert event["refused"][0].startswith("round-000003.json: ") and why in event["refused"][0]
    assert (killed / MODEL).read_bytes() == (runs[0] / MODEL).read_bytes() and told(killed) == told(runs[0])


def test_where_none_can_be_used_nothing_is_done_and_all_reasons_are_given(killed):
    for number in (1, 2, 3):
        tear(killed / CHECKPOINTS / f"round-00000{number}.json")
    before = (killed / EVENTS).read_bytes()
    with pytest.raises(InputError, match=r"no checkpoint can be used: round-000003.*round-000002.*round-000001"):
        start(law(killed), resume=True)
    assert (killed / EVENTS).read_bytes() == before


def test_events_changed_behind_a_checkpoint_make_it_unusable(killed):
    lines = (killed / EVENTS).read_text().splitlines(keepends=True)
    changed = [line for line in lines if '"kind": "round", "round": 3' not in line]
    assert len(changed) == len(lines) - 1
    (killed / EVENTS).write_text("".join(changed))
    found = find(killed, None)
    assert found.checkpoint.round == 2 and "bytes of events.jsonl, which were there" in found.refused[0]


def test_a_signed_checkpoint_that_was_edited_is_found_even_with_its_digest_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv(SERVER_KEY, str(key_file(tmp_path / "server.pem")))
    place = tmp_path / "run"
    start(law(place))
    key = ServerKey.of("")
    assert find(place, key).checkpoint.round == ROUNDS
    path = place / CHECKPOINTS / "round-000004.json"
    body = json.loads(path.read_text())
    proof = body.pop("proof")
    body["state"]["progress"]["n"] = 5
    path.write_text(json.dumps({**body, "proof": {**proof, "sha256": _digest(body)}}))
    found = find(place, key)
    assert found.checkpoint.round == 3
    assert found.refused == (f"round-000004.json: it is not signed with this server's key, {key.public[:16]}",)


def test_one_key_signs_checkpoints_and_ledger_and_a_resumed_run_goes_on_with_both(tmp_path):
    place, file = tmp_path / "run", tmp_path / "keys" / "server.pem"
    with every_instant(place, tmp_path / "killed") as copies:
        start(law(place, server_key=str(file)))
    key = ServerKey.load(file)
    assert find(place, key).checkpoint.round == ROUNDS and Written.read(place).key == key.public
    killed = copies[len(copies) // 2]
    start(law(killed, server_key=str(file)), resume=True)
    ledger = Written.read(killed)
    assert [one.what for one in verify(ledger, ended=True) if one.kind == "wrong"] == []
    (resumed,) = ledger.of("resumed")
    assert [head.round for head in ledger.heads if head.attempt == 2][-1] == ROUNDS and resumed["round"] < ROUNDS
    with pytest.raises(InputError, match="not signed with this server's key"):
        start(law(copies[len(copies) // 2 + 1], server_key=str(tmp_path / "another.pem")), resume=True)


def _digest(body):
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def test_a_signature_cannot_be_left_out_nor_be_anothers(tmp_path, killed):
    mine = ServerKey.read(key_file(tmp_path / "mine.pem"))
    found = find(killed, mine)
    assert found.checkpoint is None and all("it is not signed, and this server signs" in why for why in found.refused)
    theirs = ServerKey.read(key_file(tmp_path / "theirs.pem"))
    checkpoint = find(killed, None).checkpoint
    store.write(killed / CHECKPOINTS, checkpoint, theirs)
    assert "it is not signed with this server's key" in find(killed, mine).refused[0]
    assert "this server has no key to check that with" in find(killed, None).refused[0]
    assert find(killed, theirs).checkpoint.round == 3


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.write_text("no key"), "is no private key in PEM without a passphrase"),
        (lambda path: key_file(path, generate_private_key(SECP256R1())), "an Ed25519 key is expected"),
    ],
)
def test_a_key_that_is_none_is_told_in_a_sentence(tmp_path, make, said):
    make(tmp_path / "server.pem")
    with pytest.raises((InputError, NotThere), match=said):
        ServerKey.read(tmp_path / "server.pem")


def test_settings_that_differ_are_named_and_refused_unless_they_are_meant_to(killed):
    before = (killed / EVENTS).read_bytes()
    with pytest.raises(InputError, match=r"beta=0.02 \(was 0.01\); leave them as they were, or say"):
        start(law(killed, beta=0.02), resume=True)
    assert (killed / EVENTS).read_bytes() == before
    start(law(killed, beta=0.02), resume=True, resume_changed=True)
    assert resumptions(killed)[0]["changed"] == {"beta": 0.02} and Run.read(killed).settings["beta"] == 0.02


def test_another_step_of_local_training_is_a_change_and_counts_if_it_is_meant(killed):
    with pytest.raises(InputError, match=r"train-config=\{'lr': '0.2'\} \(was \{'lr': '0.1'\}\)"):
        start(law(killed), resume=True, lr=0.2)
    strategy = law(killed)
    start(strategy, resume=True, resume_changed=True, lr=0.2)
    assert strategy.learning.alpha == 0.2


def test_a_run_that_was_stopped_early_stays_stopped_until_more_rounds_are_asked_for(tmp_path):
    def stopping(place):
        return law(place, on_round_end=lambda done: done.stop("enough") if done.round == 2 else None)

    whole = tmp_path / "whole"
    with every_instant(whole, tmp_path / "killed") as copies:
        start(stopping(whole))
    place = copies[-3]  # after the checkpoint of round 2, before the end is written
    assert find(place, None).checkpoint.round == 2
    start(stopping(place), resume=True)
    assert [one.round for one in Run.read(place).rounds] == [1, 2] and told(place) == told(whole)
    start(law(place), resume=True, resume_changed=True, rounds=6)
    assert [one.round for one in Run.read(place).rounds] == [1, 2, 3, 4, 5, 6]


def test_what_makes_it_another_run_is_refused_even_if_it_is_meant(killed):
    with pytest.raises(InputError, match="cannot go on with another variant: variant='bsum' "):
        start(law(killed, variant="bsum"), resume=True, resume_changed=True)


def test_where_a_run_is_kept_is_no_setting_that_must_stay():
    before = {"run-dir": "a", "resume": "", "data-dir": "/x", "lr": 0.1, "only-then": 1}
    assert differences(before, {**before, "run-dir": "b", "resume": "r", "data-dir": "/y", "only-now": 2}) == {}
    assert differences(before, {"lr": 0.2}) == {"lr": 0.2}


def test_a_run_that_completed_has_nothing_to_resume_and_more_rounds_are_a_change(runs, tmp_path):
    place = tmp_path / "run"
    shutil.copytree(runs[0], place)
    with pytest.raises(InputError, match="run has completed all of its rounds"):
        start(law(place), resume=True)
    start(law(place), resume=True, resume_changed=True, rounds=6)
    assert [one.round for one in Run.read(place).rounds] == [1, 2, 3, 4, 5, 6]


def test_without_resume_a_run_is_left_alone_and_resume_begins_one_where_there_is_none(killed, tmp_path):
    with pytest.raises(AlreadyThere, match="already holds a run; name another folder or remove it; resume=True goes"):
        start(law(killed))
    start(law(tmp_path / "new"), resume=True)
    assert Run.read(tmp_path / "new").end.status == "completed" and resumptions(tmp_path / "new") == []


def test_a_checkpoint_of_another_model_is_told_apart(killed):
    with pytest.raises(
        InputError, match=r"another model: it has 'w', float32 \(3, 4\), where this one has 'w', float32"
    ):
        start(law(killed), resume=True, arrays={"w": np.zeros((3, 5), np.float32), "steps": np.array(7)})


def test_two_servers_cannot_write_one_run(killed):
    lock = Lock(killed, "the run")
    with pytest.raises(InUse, match="another process is writing the run; wait until it has ended"):
        start(law(killed), resume=True)
    lock.release()
    with pytest.raises(InputError, match="beta"):  # and a server that is refused lets go of it
        start(law(killed, beta=0.5), resume=True)
    start(law(killed), resume=True)


class FullDisk:
    """Stands in for `os`: from the n-th write on there is room for 10 bytes more, then for none."""

    def __init__(self, writes):
        self.writes = writes

    def __getattr__(self, name):
        return getattr(os, name)

    def write(self, handle, content):
        self.writes -= 1
        if self.writes == 0:
            return os.write(handle, content[:10])
        if self.writes < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(handle, content)


@pytest.mark.parametrize("writes", range(1, 27, 3))
def test_a_full_disk_is_one_sentence_leaves_nothing_half_written_and_the_run_goes_on_later(runs, tmp_path, writes):
    place = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "os", FullDisk(writes))
        with pytest.raises(OSError) as full:
            start(law(place))
    sentence = sentence_of(full.value)
    assert sentence.startswith(str(place)) and sentence.endswith("No space left on device; make room and try again")
    assert not list(place.rglob("*.unfinished"))
    for file in (place / EVENTS, place / LEDGER):
        assert not file.exists() or file.read_bytes()[-1:] in (b"", b"\n")
    start(law(place), resume=True)
    assert not [one for one in verify(Written.read(place), ended=True) if one.kind == "wrong"]
    assert (place / MODEL).read_bytes() == (runs[0] / MODEL).read_bytes() and told(place) == told(runs[0])


class ReadOnly:
    """Stands in for `os`: files may be read, not made."""

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, path, flags, *more):
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return os.open(path, flags, *more)


def test_a_read_only_folder_is_one_sentence(killed, monkeypatch):
    before = {path: path.read_bytes() for path in killed.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(durable, "os", ReadOnly())
        with pytest.raises(OSError) as refused:
            start(law(killed), resume=True)
    assert "Read-only file system" in sentence_of(refused.value)
    assert {path: path.read_bytes() for path in killed.rglob("*") if path.is_file()} == before


def test_a_folder_without_a_run_and_a_run_folder_named_twice_are_told(tmp_path):
    with pytest.raises(NotThere, match=f"there is no run to resume here \\({SETTINGS} is missing\\)"):
        reopen(tmp_path, {}, 3, None)
    with pytest.raises(InputError, match="a run has one folder; name it once"):
        start(law(tmp_path / "a", run_dir=tmp_path / "b"))
    with pytest.raises(InputError, match="checkpoint must name the folder of the run"):
        start(FedLAW(max_byzantine=2, run_dir=tmp_path / "c"), resume=True)


def test_a_run_folder_notes_no_end_on_a_disk_that_has_become_full(tmp_path, monkeypatch):
    folder = RunFolder.create(_Settings(str(tmp_path / "run")))
    monkeypatch.setattr(durable, "os", FullDisk(1))
    with pytest.raises(RuntimeError, match="what ended it"), folder:
        raise RuntimeError("what ended it")
    assert (tmp_path / "run" / EVENTS).read_bytes() == b""


class _Settings:
    strategy, task, attack = "fedlaw", "own", "none"

    def __init__(self, run_dir):
        self.run_dir = run_dir

    def as_config(self):
        return {}


def test_rounds_are_found_by_their_names_alone(tmp_path):
    for name in (
        "round-000010.json",
        "round-000002.json",
        "round-x.json",
        "round-000003.json.unfinished",
        "begun.json",
    ):
        (tmp_path / name).touch()
    assert rounds_in(tmp_path) == [10, 2] and rounds_in(tmp_path / "none") == []
