"""A run folder followed while it is written."""

import json
import threading

import pytest

from fedlaw_flwr.core.durable import write_whole
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.events.folder import EVENTS, follow_events
from fedlaw_flwr.events.types import RunResumed

END = '{"kind": "end", "status": "completed"}\n'
WARNING = '{"kind": "warning", "reason": "%s"}\n'


def followed(folder):
    """The thread that follows this folder, the events it has found, and a semaphore released for each."""
    found, seen = [], threading.Semaphore(0)

    def follow():
        for event in follow_events(folder, pause=0.01):
            found.append(event)
            seen.release()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    return thread, found, seen


def test_events_come_as_they_are_written_and_half_a_line_waits_for_its_end(tmp_path):
    file = tmp_path / EVENTS
    line = WARNING % "second"
    file.write_text(WARNING % "first" + line[:10])
    thread, found, seen = followed(tmp_path)
    assert seen.acquire(timeout=10) and [event.reason for event in found] == ["first"]
    assert not seen.acquire(timeout=0.1)  # the second line is not whole
    with file.open("a") as more:
        more.write(line[10:] + '{"kind": "of a later release"}\n' + END)
    thread.join(timeout=10)
    assert not thread.is_alive() and [event.kind for event in found] == ["warning", "warning", "end"]


def test_a_line_that_is_no_event_is_named(tmp_path):
    (tmp_path / EVENTS).write_text(WARNING % "first" + "not json\n")
    with pytest.raises(InputError, match=rf"{EVENTS}:2: this line is no event of a run"):
        list(follow_events(tmp_path, pause=0.01))


def test_a_run_that_is_resumed_meanwhile_is_followed_into_its_new_file(tmp_path):
    file = tmp_path / EVENTS
    file.write_text(WARNING % "stays" + WARNING % "is taken back")
    thread, found, seen = followed(tmp_path)
    assert seen.acquire(timeout=10) and seen.acquire(timeout=10)
    resumed = RunResumed(round=3, checkpoint=2, abandoned_round=3, abandoned=(WARNING % "is taken back",))
    write_whole(file, (WARNING % "stays" + json.dumps(resumed.to_dict()) + "\n" + END).encode())
    thread.join(timeout=10)
    assert not thread.is_alive() and [event.kind for event in found] == ["warning", "warning", "resumed", "end"]
    assert found[2] == resumed


def test_a_resumption_is_told_in_a_sentence():
    again = RunResumed(round=3, checkpoint=2, abandoned_round=3, changed={"lr": 0.2}, refused=("x is torn",))
    assert again.sentence == (
        "the run goes on with round 3 again, since the server ended in round 3; changed: lr=0.2; not used: x is torn"
    )
    assert RunResumed(round=4, checkpoint=3).sentence == "the run goes on with round 4"
    assert "the run begins anew" in RunResumed(round=1).sentence
