"""What a terminal shows while a run goes on, and that a log gets plain lines."""

import io
import re

import pytest
from rich.console import Console
from scripted_runs import AGREES, ALIKE, HOSTILE, Scripted, but, hostile, large

from fedlaw_flwr.events.folder import read_events
from fedlaw_flwr.events.types import Joined, Pardoned, Removed, RunResumed, SitsOut
from fedlaw_flwr.reporting.live_view import LiveView, duration, sparkline
from fedlaw_flwr.reporting.terminal import LiveRun


def shown(view, width=100):
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(view)
    return console.file.getvalue()


def view_of(folder, events=None):
    view = LiveView("fedlaw", 4)
    for event in list(read_events(folder))[:events]:
        view.take(event)
    return view


def test_a_terminal_shows_round_time_left_curves_and_cost(tmp_path):
    run = Scripted(tmp_path, num_rounds=4).learned(AGREES, ALIKE).frozen()
    text = shown(view_of(run.folder))
    assert "round 2/4" in text and "weights are frozen" in text
    assert "about 7 s left" in text  # rounds took 4.5 s and 2.5 s; two are left
    assert re.search(r"accuracy +▁▅█ +50.0 %", text) and re.search(r"loss +▅▅▅ +1.000", text)
    assert "exchange 1: 2.0 s, 1.4 kB" in text and "so far: 7 s, 4.2 kB" in text


def test_every_silo_has_a_bar_and_those_without_weight_or_reply_a_mark(tmp_path):
    run = Scripted(tmp_path, max_byzantine=1).gate("silo 4", "the loss is nan")
    run.learned(but(AGREES, silo_3=-0.5), ALIKE, absent=["silo 4"])
    text = shown(view_of(run.folder))
    assert "weight of 5 silos, 1 without" in text
    assert re.search(r"silo 3 +no weight +✕", text) and re.search(r"silo 4 +rejected +!", text)
    assert re.search(r"silo 0 +█+ 0\.25", text)


def test_of_many_silos_those_without_weight_are_shown_first(tmp_path):
    text = shown(view_of(large(tmp_path, silos=200, rounds=2)), 120)
    without = int(re.search(r"weight of 200 silos, (\d+) without", text)[1])
    assert text.count("no weight") == without > 20
    assert "and 155 more that count" in text and len(text.splitlines()) < 40


def test_a_run_that_ended_says_how(tmp_path):
    run = Scripted(tmp_path).learned(AGREES, ALIKE).end("failed", reason="TimeoutError: nobody came")
    assert "failed" in shown(view_of(run.folder))


def test_what_is_no_terminal_gets_plain_lines_and_no_control_characters(tmp_path):
    console = Console(file=io.StringIO(), width=200)
    with LiveRun(console, "fedlaw", 3) as live:
        for event in read_events(hostile(tmp_path)):
            live.show(event)
    text = console.file.getvalue()
    assert f"round 2: reply of silo 3 rejected: </script>{HOSTILE}" in text
    assert "fedlaw  round   3/3  accuracy  70.0 %" in text
    assert "\x1b" not in text and "\x07" not in text
    assert f"the run failed: {HOSTILE}" in text


def test_who_sits_out_is_pardoned_removed_or_joins_is_said():
    console = Console(file=io.StringIO(), width=200)
    with LiveRun(console, "fedlaw", 3) as live:
        live.show(SitsOut(round=3, silo="bonn", strikes=3, reason="no answer [within] 60 s"))
        live.show(Pardoned(round=5, silo="bonn"))
        live.show(Removed(round=6, silo="aachen", n=7, b=2))
        live.show(Joined(round=7, silo="ulm"))
        live.show(RunResumed(round=2, checkpoint=1, abandoned_round=2))
    assert [line.strip() for line in console.file.getvalue().splitlines()] == [
        "bonn sits out after round 3: no usable reply in 3 rounds in a row (no answer [within] 60 s); `fedlaw deploy "
        "pardon` lets it in again",
        "bonn was pardoned and is asked again from round 5 on",
        "aachen was removed before round 6: 7 silos are left, at most 2 of them Byzantine",
        "ulm joined before round 7",
        "the run goes on with round 2 again, since the server ended in round 2",
    ]


def test_a_terminal_shows_what_happened_last_in_its_view(tmp_path):
    console = Console(file=io.StringIO(), width=120, height=40, force_terminal=True)
    with LiveRun(console, "fedlaw", 3) as live:
        for event in read_events(hostile(tmp_path)):
            live.show(event)
    text = console.file.getvalue()
    assert "last events" in text and "\x07" not in text and HOSTILE in text


def test_a_silo_without_a_voice_is_told_once_with_its_reason_and_at_the_end_with_its_rounds(tmp_path):
    run = Scripted(tmp_path)
    for _ in range(3):
        run.write(kind="no-review", round=run.round + 1, silo="silo 2", reason="it sends no review")
        run.learned(AGREES, ALIKE)
    run.write(kind="no-review", round=4, silo="silo 3", reason="review: array 'w' is missing (1 of 2 are)").end()
    console = Console(file=io.StringIO(), width=200)
    with LiveRun(console, "fedlaw", 3) as live:
        for event in read_events(run.folder):
            live.show(event)
    assert [line.strip() for line in console.file.getvalue().splitlines() if "voice" in line] == [
        "round 1: silo 2 has no voice in peer review: it sends no review",
        "round 4: silo 3 has no voice in peer review: review: array 'w' is missing (1 of 2 are)",
        "silo 2 had no voice in peer review in 3 rounds: it sends no review",
    ]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([0.0, 1.0], "▁█"),
        ([1.0, 1.0], "▅▅"),
        ([0.0, float("nan"), 7.0, 1.0], "▁·█▂"),
        ([], ""),
        ([9.0, 0.0, 7.0], "▁█"),
    ],
)
def test_a_line_of_blocks_goes_from_the_lowest_to_the_highest_of_the_last_values(values, line):
    assert sparkline(values, 2 if len(values) == 3 else 10) == line


def test_times_are_said_as_people_say_them():
    assert [duration(seconds) for seconds in (0.4, 59.4, 185, 7800)] == ["0 s", "59 s", "3:05 min", "2:10 h"]
