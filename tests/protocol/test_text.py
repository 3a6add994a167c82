"""What others' errors and logs say, on one line: the cause, wherever it stands, and nothing that could be mistaken."""

import pytest
from flwr.app import ArrayRecord
from flwr.clientapp.client_app import ClientAppException
from hypothesis import given
from hypothesis import strategies as st
from scripted import Received, ScriptedGrid

from fedlaw_flwr.protocol.exchange import Ask, run_exchange
from fedlaw_flwr.protocol.roster import Roster
from fedlaw_flwr.protocol.text import cause, last_sentence, single_line

SENTENCE = "partition-id=4: num-silos=4 deals the examples to silos 0 to 3"


def flower_s_reason(error: Exception) -> str:
    """How Flower writes an exception of a ClientApp into its error reply."""
    return str(type(error)) + ":<'" + str(error) + "'>"


def ray_s_traceback(sentence: str) -> str:
    frames = "\n".join(
        f'  File "/opt/site-packages/app/module_{i}.py", line {i}, in call\n    step()' for i in range(30)
    )
    return (
        f"ray::ClientAppActor.run() (pid=1)\n{frames}\nValueError: {sentence}\n\nThe above exception was the "
        f"direct cause of the following exception:\n\nray::ClientAppActor.run() (pid=1)\n{frames}\n"
        f"flwr.clientapp.client_app.ClientAppException: \nException ClientAppException occurred. Message: {sentence}"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SENTENCE, SENTENCE),
        (flower_s_reason(RuntimeError(ray_s_traceback(SENTENCE))), f"... {SENTENCE}"),
        (flower_s_reason(ClientAppException(SENTENCE + " x" * 40)), f"... {SENTENCE}" + " x" * 40),
        (
            "Traceback (most recent call last):\n" + "  frame\n" * 50 + f"ValueError: {SENTENCE}\n",
            f"... ValueError: {SENTENCE}",
        ),
        ("ray::frame\n" * 50 + f"ValueError: {SENTENCE}\n    ^^^^^^\n\n'>\n", f"... ValueError: {SENTENCE}"),
        ("two\nshort lines", "two short lines"),
        (
            "a=1: too few\n" + "b=2: too many\n" * 20 + "c=3: none",
            "a=1: too few" + " b=2: too many" * 11 + " ... c=3: none",
        ),
        ("x" * 500, "x" * 180 + " ..."),
        ("frame\n" * 50 + "y" * 500, "y" * 180 + " ..."),
        ("", ""),
        ("^^\n" * 500, "^^ " * 60 + "..."),
    ],
)
def test_the_last_line_of_an_error_is_what_is_kept_of_it(text, said):
    assert cause(text, 180) == said


@given(st.text(max_size=2000), st.integers(20, 200))
def test_no_text_of_a_strangers_makes_a_second_line_or_a_long_one(text, most):
    for said in (cause(text, most), single_line(text, most), last_sentence(text, most)):
        assert len(said) <= most + 4 and said.isprintable() and "\n" not in said


def test_a_silos_failure_is_told_by_its_last_line_in_an_exchange():
    def fails(received: Received):
        raise RuntimeError(ray_s_traceback(SENTENCE))

    grid = ScriptedGrid([fails])
    (silo,) = Roster().refresh(grid)
    config = {"server-round": 1, "exchange": 1, "lr": 0.1}
    outcome = run_exchange(grid, [Ask(silo)], ArrayRecord(), config, lambda ask, content: None, timeout=5)
    assert outcome.silent[silo] == f"error 2: ... {SENTENCE}"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("", ""),
        ("\n \n---\n", ""),
        ("INFO one\nINFO two\n\n", "INFO two"),
        ("INFO one\nerror: a.csv: row 3: wrong\nits second line\n", "a.csv: row 3: wrong its second line"),
        ("error: long ago\n" + "INFO round\n" * 40, "INFO round"),
        ("Traceback (most recent call last):\n  File x\nKeyError: 'größe'\n", "KeyError: 'größe'"),
        ("\x1b[31merror:\x1b[0m red\x1b[0m\n", "red"),
        ("╭─ Error ─────╮\n│ No such run │\n╰─────────────╯\n", "No such run"),
    ],
)
def test_the_last_sentence_of_a_log(log, said):
    assert last_sentence(log) == said
