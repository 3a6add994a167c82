"""One exchange with silos that crash, lie, stall and send junk: each harms itself alone, a broken line harms nobody."""

import gc
import weakref

import httpx
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MessageType, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Late, ScriptedGrid, record_of, reply, stopped_clock

from fedlaw_flwr.events.types import NoReply, ReplyRejected
from fedlaw_flwr.protocol import exchange, gate
from fedlaw_flwr.protocol.exchange import Ask, run_exchange
from fedlaw_flwr.protocol.layout import Layout
from fedlaw_flwr.protocol.roster import Roster
from fedlaw_flwr.protocol.round import Channel, Matrix, RoundExchanges

THETA = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.zeros(2, np.float32)}
CONFIG = {"server-round": 3, "exchange": 1, "lr": 0.1}
TIMEOUT = 10.0


def honest(received):
    """Moves every number down by its index, so that its update is its index everywhere."""
    return reply({key: array - np.float32(received.silo) for key, array in received.arrays.items()})


class Held:
    """An exchange that was held: its outcome, the rows the gate let through, and the clock."""

    def __init__(self, grid, *, kinds=None, timeout=TIMEOUT, config=CONFIG):
        model = Layout.of(record_of(THETA)).split(record_of(THETA))
        self.silos = Roster().refresh(grid)
        self.rows = {}
        asks = [Ask(silo, kinds[i] if kinds else "update") for i, silo in enumerate(self.silos)]

        def receive(ask, content):
            gate.read_loss(content, "loss", 0.0)
            row = np.zeros(8, np.float32)
            if ask.reply == "update":
                gate.read_update(content, model, row)
            self.rows[ask.silo] = row

        with stopped_clock() as self.clock:
            self.outcome = run_exchange(grid, asks, record_of(THETA), config, receive, timeout)

    @property
    def answered(self):
        return self._indices(self.outcome.answered)

    @property
    def rejected(self):
        return self._indices(self.outcome.rejected)

    @property
    def silent(self):
        return self._indices(self.outcome.silent)

    def reason(self, index):
        return {**self.outcome.rejected, **self.outcome.silent}[self.silos[index]]

    def _indices(self, silos):
        return [self.silos.index(silo) for silo in silos]


# -- the plain course --------------------------------------------------------------------------------------------


def test_every_silo_gets_the_model_and_the_settings_and_its_reply_is_read_into_its_row():
    grid = ScriptedGrid([honest] * 4)
    held = Held(grid)
    assert held.answered == [0, 1, 2, 3] and not held.rejected and not held.silent
    for silo, received in enumerate(grid.received):
        assert (received.silo, received.message_type) == (silo, MessageType.TRAIN)
        assert received.config == {**CONFIG, "reply": "update"}
        assert received.arrays.keys() == THETA.keys()
        np.testing.assert_array_equal(received.arrays["w"], THETA["w"])
        assert held.rows[held.silos[silo]].tolist() == [silo] * 8


def test_a_silo_asked_for_its_loss_alone_may_send_just_that_or_everything():
    grid = ScriptedGrid([honest, lambda received: reply(loss=2.0), honest])
    held = Held(grid, kinds=["update", "loss", "loss"])
    assert grid.asked(3, 1) == {0: "update", 1: "loss", 2: "loss"}
    assert held.answered == [0, 1, 2]


def test_no_silos_are_no_exchange_and_take_no_time():
    grid = ScriptedGrid([])
    held = Held(grid)
    assert not (held.answered or held.rejected or held.silent or held.clock.slept)
    assert (held.outcome.bytes_down, held.outcome.bytes_up, grid.pulls) == (0, 0, 0)


def test_every_byte_is_counted_both_ways_those_of_refused_replies_included():
    bad = reply({"w": np.zeros((2, 3), np.float32)})
    grid = ScriptedGrid([honest, honest, lambda received: bad, lambda received: None])
    outcome = Held(grid, timeout=1.0).outcome

    # By hand: names as UTF-8, array data as serialised, texts as UTF-8, numbers as 8.
    def size(record):
        values = [value.data if isinstance(value, Array) else value for value in record.values()]
        return len("".join(record)) + sum(len(value) if isinstance(value, str | bytes) else 8 for value in values)

    sent = {"arrays": record_of(THETA), "config": {**CONFIG, "reply": "update"}}
    assert outcome.bytes_down == 4 * sum(len(name) + size(record) for name, record in sent.items())
    replies = [dict(reply(THETA)), dict(reply(THETA)), dict(bad)]
    assert outcome.bytes_up == sum(len(name) + size(record) for content in replies for name, record in content.items())


def test_replies_are_taken_as_they_arrive_and_who_answers_late_is_waited_for():
    grid = ScriptedGrid([honest] * 4, late=lambda received: [5, 0, 9, 2][received.silo])
    held = Held(grid)
    assert held.answered == [1, 3, 0, 2]
    assert [held.rows[held.silos[i]][0] for i in range(4)] == [0, 1, 2, 3]


def test_it_asks_often_while_replies_come_and_seldom_while_silos_train():
    held = Held(ScriptedGrid([lambda received: None]))
    pauses = held.clock.slept
    assert pauses[0] <= 0.05 and max(pauses) == 0.5 and len(pauses) < 40


def test_where_asking_takes_long_it_rests_ten_times_as_long():
    class Slow(ScriptedGrid):
        def pull_messages(self, message_ids):
            exchange.time.sleep(0.004)  # the stopped clock's
            return super().pull_messages(message_ids)

    slow = Held(Slow([honest, honest, lambda received: None]), timeout=0.5)
    rests = [pause for pause in slow.clock.slept if pause != 0.004]
    assert slow.answered == [0, 1] and rests[0] == pytest.approx(0.04)


# -- hostile replies ---------------------------------------------------------------------------------------------


class Unreadable(Message):
    """A reply whose content raises when it is looked at."""

    def __init__(self):
        super().__init__(RecordDict(), 1, MessageType.TRAIN)

    @property
    def content(self):
        raise KeyError("inflating this was a mistake")


class Blank(Message):
    """A reply with neither content nor error."""

    def __init__(self):
        super().__init__(RecordDict(), 1, MessageType.TRAIN)
        self.__dict__["_content"] = None


def crash(received):
    raise ZeroDivisionError("in the silo's own code")


def two_records(received):
    content = honest(received)
    content["more"] = content["arrays"]
    return content


def empty_text(received):
    content = honest(received)
    content["config"] = ConfigRecord({"note": ""})
    return content


REJECTED = {
    "bytes Flower cannot read": (lambda r: ValueError("junk"), "its reply cannot be read (ValueError)"),
    "a reply too large for memory": (lambda r: MemoryError(), "its reply cannot be read (MemoryError)"),
    "a reply nested too deeply": (lambda r: RecursionError(), "its reply cannot be read (RecursionError)"),
    "content that raises": (lambda r: Unreadable(), "its reply cannot be used (KeyError"),
    "neither content nor error": (lambda r: Blank(), "its reply cannot be used (ValueError"),
    "nothing in it": (lambda r: RecordDict(), "0 MetricRecords"),
    "no arrays": (lambda r: reply(), "0 ArrayRecords"),
    "no metrics": (lambda r: reply(THETA, loss=None), "0 MetricRecords"),
    "two array records": (two_records, "2 ArrayRecords"),
    "a key short": (lambda r: reply({"w": THETA["w"]}), "array 'bias' is missing"),
    "another key": (lambda r: reply({**THETA, "x": THETA["w"]}), "array 'x' is not one of the model's"),
    "another shape": (lambda r: reply({**THETA, "w": THETA["w"].T}), "shape (3, 2)"),
    "not a number": (lambda r: reply({**THETA, "w": THETA["w"] * np.nan}), "not finite"),
    "a negative loss": (lambda r: reply(THETA, loss=-1.0), "below the floor"),
    "a list for a loss": (lambda r: reply(THETA, loss=[1.0]), "no number under the loss key"),
    "a loss under another key": (lambda r: reply(THETA, loss_key="Loss"), "no number under the loss key"),
    "metrics without a number": (lambda r: RecordDict({"m": MetricRecord(), "a": ArrayRecord()}), "no number"),
}
SILENT = {
    "silence": (lambda r: None, "no answer within 10 s"),
    "a crash": (crash, "error 2: ZeroDivisionError: in the silo's own code"),
    "an error reply": (lambda r: Error(5, "Node unavailable"), "error 5: Node unavailable"),
    "too late": (lambda r: Late(honest(r), 10_000), "no answer within 10 s"),
}


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize("what", REJECTED)
def test_a_reply_that_cannot_be_used_sets_its_silo_aside_and_costs_no_other_anything(what, place):
    script, reason = REJECTED[what]
    held = Held(ScriptedGrid([script if i == place else honest for i in range(5)]))
    others = [i for i in range(5) if i != place]
    assert (held.answered, held.rejected, held.silent) == (others, [place], [])
    assert reason in held.reason(place) and held.reason(place).isprintable()
    assert [held.rows[held.silos[i]][0] for i in others] == others
    assert held.outcome.seconds < 1  # junk is known as junk at once, nobody waits for its sender


@pytest.mark.parametrize("what", SILENT)
def test_no_reply_or_an_error_makes_a_silo_silent_and_costs_no_other_anything(what):
    script, reason = SILENT[what]
    held = Held(ScriptedGrid([honest, script, honest]))
    assert (held.answered, held.rejected, held.silent) == ([0, 2], [], [1])
    assert held.reason(1) == reason


def test_when_all_replies_are_junk_the_exchange_ends_at_once_with_a_reason_for_each():
    scripts = [script for script, _ in REJECTED.values()]
    held = Held(ScriptedGrid(scripts))
    assert held.rejected == list(range(len(scripts))) and not held.answered and not held.silent
    assert all(held.reason(i) for i in held.rejected) and held.outcome.seconds < 1


@pytest.mark.parametrize("reason", ["line\nround 9: all is well", "x" * 10**6, "\t\r\n", "", None])
def test_the_reason_of_an_error_reply_stays_on_one_short_line(reason):
    held = Held(ScriptedGrid([lambda received: Error(2, reason)]))
    assert held.reason(0).startswith("error 2") and "\n" not in held.reason(0) and len(held.reason(0)) < 200


def test_whatever_reading_a_reply_raises_is_the_fault_of_its_sender_in_words():
    grid = ScriptedGrid([honest, honest])
    first, second = Roster().refresh(grid)

    def receive(ask, content):
        if ask.silo == first:
            raise IndexError("x\n" * 500)

    with stopped_clock():
        outcome = run_exchange(grid, [Ask(first), Ask(second)], record_of(THETA), CONFIG, receive, 10)
    assert outcome.answered == [second]
    assert outcome.rejected[first].startswith("its reply cannot be used (IndexError: x x x")
    assert "\n" not in outcome.rejected[first] and len(outcome.rejected[first]) < 300


def test_a_silo_whose_message_could_not_be_sent_is_silent_without_waiting_for_it():
    held = Held(ScriptedGrid([honest] * 3, unsent={1}))
    assert (held.answered, held.silent, held.reason(1)) == ([0, 2], [1], "the message could not be sent")
    assert held.outcome.seconds < 1


def test_a_second_node_with_a_registered_name_is_never_even_asked():
    grid = ScriptedGrid([honest] * 3, names=["clinic", "bank", "clinic"])
    held = Held(grid)
    assert sorted(grid.asked(3, 1)) == [0, 1] and [silo.name for silo in held.outcome.answered] == ["bank", "clinic"]


# -- time and the line -------------------------------------------------------------------------------------------


def test_at_the_deadline_those_who_have_answered_count_and_the_others_are_silent():
    held = Held(ScriptedGrid([honest, lambda r: None, honest, lambda r: None]))
    assert (held.answered, held.silent) == ([0, 2], [1, 3])
    assert TIMEOUT <= held.outcome.seconds < TIMEOUT + 0.1


def test_what_has_arrived_by_the_deadline_is_still_fetched_after_it():
    grid = ScriptedGrid([honest, honest], late=lambda received: [0, 1][received.silo])
    assert Held(grid, timeout=0.001).answered == [0, 1]


@pytest.mark.parametrize("first", [0, 1, 4])
def test_an_outage_of_the_superlink_in_mid_exchange_blames_nobody(first):
    grid = ScriptedGrid([honest] * 5, down=range(first, first + 8))
    held = Held(grid)
    assert sorted(held.answered) == [0, 1, 2, 3, 4] and not held.rejected and not held.silent
    assert held.outcome.seconds < TIMEOUT


def test_a_push_that_a_dying_superlink_refuses_halfway_is_made_again_with_the_same_messages():
    from flwr.supercore.inflatable.inflatable_utils import ObjectPushError

    grid, pushed = ScriptedGrid([honest] * 3), []
    push = grid.push_messages

    def refused_once(messages):
        pushed.append(list(messages))
        if len(pushed) == 1:
            raise ObjectPushError("an-object", 1, "a-session")
        return push(pushed[-1])

    grid.push_messages = refused_once
    assert sorted(Held(grid).answered) == [0, 1, 2]
    assert len(pushed) == 2 and all(one is other for one, other in zip(*pushed, strict=True))


def test_an_outage_leaves_the_silence_of_a_silo_its_own():
    held = Held(ScriptedGrid([honest, lambda r: None, honest], down=range(1, 5)))
    assert (sorted(held.answered), held.silent) == ([0, 2], [1])


def test_an_outage_for_good_comes_to_an_end():
    held = Held(ScriptedGrid([honest] * 3, down=range(10**6)))
    assert held.silent == [0, 1, 2] and held.outcome.seconds < 20 * TIMEOUT


def test_an_outage_that_lasts_past_the_deadline_blames_nobody_either():
    """In exchange 2 silence costs a silo its weight; it must be the silo's own."""
    held = Held(ScriptedGrid([honest] * 3, down=range(1, 30), late=lambda r: 1))
    assert held.answered == [0, 1, 2]


@pytest.mark.parametrize("place", [0, 1])
def test_a_reply_that_the_superlink_cannot_deliver_costs_no_other_silo_its_reply(place):
    def undeliverable(received):
        request = httpx.Request("POST", "https://superlink/pull")
        return httpx.HTTPStatusError("500", request=request, response=httpx.Response(500, request=request))

    held = Held(ScriptedGrid([undeliverable if i == place else honest for i in range(3)]))
    assert sorted(held.answered) == [i for i in range(3) if i != place]
    assert place not in held.answered


# -- what honest apps may do -------------------------------------------------------------------------------------


def test_an_empty_text_in_a_silo_s_records_is_no_fault_of_its_reply():
    assert Held(ScriptedGrid([honest, empty_text])).answered == [0, 1]


def test_an_empty_text_among_the_settings_sent_does_not_end_the_run():
    assert Held(ScriptedGrid([honest]), config={**CONFIG, "note": ""}).answered == [0]


# -- the events --------------------------------------------------------------------------------------------------


def test_who_was_not_heard_is_told_in_the_events_with_the_reason_and_the_best_name_known():
    def junk(received):
        return reply(THETA, loss=float("nan"), partition=7)

    events = []
    grid = ScriptedGrid([honest, junk, lambda received: None, crash, lambda received: ValueError("junk")])
    model = Layout.of(record_of(THETA)).split(record_of(THETA))
    channel = Channel(grid, Roster(), Matrix(), ConfigRecord({"lr": 0.1}), TIMEOUT, "loss", 0.0, events.append, 5)
    with stopped_clock():
        exchanges = RoundExchanges(channel, 3)
        exchanges.first(model)
    assert [silo.node_id for silo in exchanges.replies.silos] == [2]
    where = {"round": 3, "exchange": 1}
    assert sorted(events, key=lambda event: event.silo) == [
        NoReply(**where, silo="node 4", reason="no answer within 10 s"),
        NoReply(**where, silo="node 5", reason="error 2: ZeroDivisionError: in the silo's own code"),
        ReplyRejected(**where, silo="node 6", reason="its reply cannot be read (ValueError)"),
        ReplyRejected(**where, silo="silo 7", reason="the loss is nan"),
    ]


# -- memory and order --------------------------------------------------------------------------------------------


def test_a_reply_is_gone_before_the_next_is_pulled():
    alive, most = [], []

    def silo(received):
        most.append(sum(seen() is not None for seen in alive))
        content = honest(received)
        alive.append(weakref.ref(content["arrays"]))
        return content

    gc.collect()
    gc.disable()
    try:
        held = Held(ScriptedGrid([silo] * 6))
    finally:
        gc.enable()
    assert len(held.answered) == 6 and max(most) == 0


BEHAVIOURS = ["honest", *REJECTED, "silence", "a crash", "an error reply"]


@settings(derandomize=True, deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from(BEHAVIOURS), st.integers(0, 6), st.integers(0, 6)), max_size=7),
    st.sets(st.integers(0, 30), max_size=12),
)
def test_every_silo_ends_in_exactly_one_place_and_no_order_of_arrival_or_outage_changes_which(silos, down):
    scripts = [
        honest if what == "honest" else REJECTED[what][0] if what in REJECTED else SILENT[what][0]
        for what, _, _ in silos
    ]
    one = Held(ScriptedGrid(scripts, late=lambda r: silos[r.silo][1]))
    other = Held(ScriptedGrid(scripts, late=lambda r: silos[r.silo][2], down=down))
    for held in (one, other):
        assert sorted(held.answered + held.rejected + held.silent) == list(range(len(silos)))
        assert sorted(held.answered) == [i for i, (what, _, _) in enumerate(silos) if what == "honest"]
        assert sorted(held.rejected) == [i for i, (what, _, _) in enumerate(silos) if what in REJECTED]
    assert one.outcome.rejected == other.outcome.rejected and one.outcome.silent == other.outcome.silent
    assert {silo: row.tolist() for silo, row in one.rows.items()} == {s: r.tolist() for s, r in other.rows.items()}
