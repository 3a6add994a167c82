"""A ledger that was edited, cut, reordered or signed anew is found; one that goes on after a crash is not blamed."""

import json
import stat

import numpy as np
import pytest

from fedlaw_flwr.core.errors import AlreadyThere, InputError, NotThere
from fedlaw_flwr.ledger.heads import Head, contradictions, head_of, read_heads
from fedlaw_flwr.ledger.kept import keep_head
from fedlaw_flwr.ledger.keys import ServerKey, fingerprint, is_signed_by
from fedlaw_flwr.ledger.lines import START, digest_of, model_digest
from fedlaw_flwr.ledger.verify import Written, verify
from fedlaw_flwr.ledger.writer import Ledger

SILOS = ("berlin", "bonn", "köln")


@pytest.fixture
def key(tmp_path):
    return ServerKey.load(tmp_path / "server.key")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


def write_round(ledger, number, **changed):
    for silo in SILOS:
        ledger.write("silo", round=number, silo=silo, weight=changed.get(silo, 0.25), verdict="weight")
    ledger.write("round", round=number, skipped=False)
    return ledger.seal(number)


def written(path, key, rounds=4, ends=True, **changed):
    """The heads of a ledger written to this file, in order."""
    ledger = Ledger.create(path, key)
    heads = [ledger.head, *(write_round(ledger, number, **changed) for number in range(1, rounds + 1))]
    if ends:
        ledger.write("end", status="completed")
        heads.append(ledger.seal(rounds, last=True))
    ledger.close()
    return heads


def wrong(path, heads=None, ended=None):
    return [one.what for one in verify(Written.read(path), heads, ended) if one.kind == "wrong"]


def rewrite(path, change):
    """Changes the lines and writes them back, as someone would who has an editor and no key."""
    lines = path.read_text().splitlines()
    path.write_text("\n".join(change(lines) or lines) + "\n")


def forge(path, key, change):
    """Writes the whole ledger anew with changed entries: all digests and signatures hold again, with this key."""
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    change(entries)
    entries[0]["key"] = key.public
    previous, lines = START, []
    for number, entry in enumerate(entries):
        entry["previous"] = previous
        if entry["kind"] == "head":
            place = entry["attempt"], entry["round"], entry["last"], number, previous
            entry["lines"], entry["signature"] = number, Head.signed(key, entries[0]["run"], *place).signature
        lines.append(json.dumps(entry, separators=(",", ":")))
        previous = digest_of(lines[-1])
    path.write_text("\n".join(lines) + "\n")


# -- as it was written ---------------------------------------------------------------------------------------------


def test_a_ledger_that_nobody_touched_has_nothing_wrong_and_names_its_key(path, key):
    heads = written(path, key)
    found = verify(Written.read(path), heads, ended=True)
    assert [one.kind for one in found] == ["ok"] * 4
    assert any(fingerprint(key.public) in one.what for one in found)
    assert "6 heads that silos kept are in it, the last of the end" in found[-1].what


def test_without_heads_of_silos_it_is_said_what_cannot_be_seen(path, key):
    written(path, key)
    (note,) = [one.what for one in verify(Written.read(path)) if one.kind == "note"]
    assert note.startswith("no heads of silos were given: whoever has the server's key can write such a ledger anew")


def test_a_line_leaves_out_what_is_unknown_and_takes_no_number_that_json_has_not(path, key):
    ledger = Ledger.create(path, key)
    ledger.write(
        "silo", silo="a", loss=float("nan"), norm=float("inf"), weight=None, trial_loss=0.5, many=[1.0, np.nan]
    )
    ledger.close()
    last = json.loads(path.read_text().splitlines()[-1])
    assert {name: value for name, value in last.items() if name != "previous"} == {
        "kind": "silo",
        "silo": "a",
        "trial-loss": 0.5,
        "many": [1.0, None],
    }


def test_a_ledger_is_never_overwritten(path, key):
    written(path, key)
    with pytest.raises(AlreadyThere, match="never overwritten"):
        Ledger.create(path, key)


def test_a_head_is_on_disk_before_anyone_has_it(path, key):
    ledger = Ledger.create(path, key)
    head = write_round(ledger, 1)
    assert Written.read(path).heads[-1] == head  # while the file is open for writing
    ledger.close()


# -- changed by someone without the key ----------------------------------------------------------------------------


def test_an_edited_line_is_found(path, key):
    written(path, key)
    rewrite(path, lambda lines: [line.replace('"bonn","weight":0.25', '"bonn","weight":0.35') for line in lines])
    assert any("a line here was edited, cut or moved" in one for one in wrong(path))


def test_an_edit_of_the_last_line_is_found(path, key):
    heads = written(path, key)
    rewrite(path, lambda lines: [*lines[:-2], lines[-2].replace("completed", "failed"), lines[-1]])
    assert wrong(path, heads, ended=True)


def test_a_line_that_was_taken_out_is_found(path, key):
    written(path, key)
    rewrite(path, lambda lines: lines[:7] + lines[8:])
    assert any(one.startswith("line 8") and "cut" in one for one in wrong(path))


def test_lines_in_another_order_are_found(path, key):
    written(path, key)

    def swap(lines):
        lines[7], lines[8] = lines[8], lines[7]

    rewrite(path, swap)
    assert any(one.startswith("line 8, 9, 10") for one in wrong(path))


def test_a_beginning_that_was_cut_off_is_found(path, key):
    written(path, key)
    rewrite(path, lambda lines: lines[2:])
    assert "line 1 is not the beginning of a ledger: lines were cut or moved" in wrong(path)


def test_an_end_that_was_cut_off_is_found_by_the_events_or_by_one_head_of_one_silo(path, key):
    heads = written(path, key)
    rewrite(path, lambda lines: lines[:12])  # where round 2 ends: a whole ledger as far as it goes
    assert wrong(path) == []
    assert any("stops before that" in one for one in wrong(path, ended=True))
    assert any("the end of the ledger was cut off" in one for one in wrong(path, [heads[3]]))
    assert wrong(path, heads[:3]) == []  # that silo was not there afterwards


@pytest.mark.parametrize("junk", ["", "{}", "[]", "nonsense", '{"kind":"head"}', "[" * 100_000])
def test_junk_in_place_of_a_line_is_wrong_and_no_crash(path, key, junk):
    written(path, key)
    rewrite(path, lambda lines: [*lines[:3], junk, *lines[4:]])
    assert wrong(path)


@pytest.mark.parametrize("field", ["attempt", "round", "last", "lines", "signature"])
@pytest.mark.parametrize("value", [None, "x", -1, 10**30, True, [], 7])
def test_a_head_with_another_value_in_any_place_is_not_signed(path, key, field, value):
    written(path, key)

    def change(entries):
        entries[-1][field] = value

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    if lines[-1][field] == value and type(lines[-1][field]) is type(value):
        pytest.skip("the value it has")
    change(lines)
    path.write_text("\n".join(json.dumps(line, separators=(",", ":")) for line in lines) + "\n")
    assert any("not signed by the ledger's key" in one for one in wrong(path))


# -- changed by someone with a key ---------------------------------------------------------------------------------


def raise_bonn(entries):
    for entry in entries:
        if entry.get("silo") == "bonn" and entry["round"] == 2:
            entry["weight"] = 0.9


def test_a_ledger_written_anew_with_the_servers_own_key_is_found_by_the_heads_of_silos_alone(path, key):
    heads = written(path, key)
    forge(path, key, raise_bonn)
    assert wrong(path, ended=True) == []
    (said,) = wrong(path, heads, ended=True)
    assert (
        said.startswith("4 of 6 heads of silos: the first, of round 2") and "changed after silos had the head" in said
    )


def test_a_ledger_signed_anew_with_another_key_is_found(path, key, tmp_path):
    heads = written(path, key)
    forge(path, ServerKey.load(tmp_path / "another.key"), lambda entries: None)
    assert wrong(path, ended=True) == []
    assert any("signed with another key than the ledger's" in one for one in wrong(path, heads))
    mine = fingerprint(key.public)
    found = [one.what for one in verify(Written.read(path), ended=True, key=mine) if one.kind == "wrong"]
    assert len(found) == 1 and f"{mine} is expected" in found[0]


def test_the_fingerprint_of_the_server_s_key_is_found_right(path, key):
    written(path, key)
    findings = verify(Written.read(path), ended=True, key=fingerprint(key.public))
    assert "the key is the one expected" in [one.what for one in findings if one.kind == "ok"]


def test_a_signature_copied_from_another_head_does_not_hold(path, key):
    written(path, key)
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    of_heads = [entry for entry in entries if entry["kind"] == "head"]
    of_heads[2]["signature"] = of_heads[3]["signature"]
    path.write_text("\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries) + "\n")
    assert any("1 of 6 heads are not signed by the ledger's key, first that of round 2" in one for one in wrong(path))


def test_heads_of_another_run_speak_for_nothing(path, key, tmp_path):
    written(path, key)
    others = written(tmp_path / "other.jsonl", key)
    (said,) = wrong(path, others)
    assert said.startswith("none of the 6 heads given is of this ledger")


# -- two silos compare ---------------------------------------------------------------------------------------------


def test_heads_of_one_story_agree_also_where_silos_missed_rounds(path, key):
    heads = written(path, key)
    assert contradictions({"berlin": heads, "bonn": heads[1::2], "köln": heads[:2]}) == []


def test_a_server_that_tells_each_another_story_is_found(path, key, tmp_path):
    heads = written(path, key)
    another = tmp_path / "another.jsonl"
    another.write_text(path.read_text())
    forge(another, key, raise_bonn)
    told = list(Written.read(another).heads)
    (first, *_) = contradictions({"berlin": heads, "bonn": told})
    assert first.startswith(f"run {heads[0].run[:8]}…: berlin was told round 2: 11 lines")
    assert "bonn was told round 2: 11 lines" in first and first.endswith("one ledger has one of them")
    assert contradictions({"berlin": heads[:2], "bonn": told[:2]}) == []  # until then it was one story


def test_stories_that_differ_in_length_are_found_without_a_round_in_common(path, key, tmp_path):
    heads = written(path, key)
    short = written(tmp_path / "short.jsonl", key, rounds=2)
    run, place = heads[0].run, (1, 5, False, 9, "a" * 64)  # round 5 after 9 lines, where round 2 had 11
    assert contradictions({"berlin": heads, "bonn": [Head.signed(key, run, *place)]})
    assert contradictions({"berlin": heads, "bonn": short}) == []  # another run


def test_two_keys_for_one_run_are_found(path, key, tmp_path):
    heads = written(path, key)
    other = ServerKey.load(tmp_path / "other.key")
    head = Head.signed(other, heads[0].run, 1, 2, False, heads[2].lines, heads[2].digest)
    assert any("signed with 2 keys" in one for one in contradictions({"berlin": heads, "bonn": [head]}))


def test_a_head_that_nobody_signed_is_said_to_prove_nothing(path, key):
    forged = Head(**{**written(path, key)[2].__dict__, "digest": "b" * 64})
    (said,) = contradictions({"bonn": [forged]})
    assert said.startswith("bonn: ") and said.endswith("it proves nothing")


# -- the server went down ------------------------------------------------------------------------------------------


def interrupted(path, key, rounds, at, tail=b""):
    """A ledger of so many rounds whose state was taken after round `at`, with this at its end; its heads and state."""
    ledger = Ledger.create(path, key)
    heads, state = [ledger.head], ledger.state()
    for number in range(1, rounds + 1):
        heads.append(write_round(ledger, number))
        state = ledger.state() if number == at else state
    ledger.close()
    with path.open("ab") as file:
        file.write(tail)
    return heads, json.loads(json.dumps(state))


@pytest.mark.parametrize("tail", [b"", b'{"previous":"' + b"0" * 20, "ö".encode()[:1]])
def test_a_run_that_is_resumed_goes_on_with_its_chain_and_names_the_rounds_it_runs_again(path, key, tail):
    heads, state = interrupted(path, key, rounds=4, at=2, tail=tail)
    ledger = Ledger.restore(path, key, state)
    heads += [ledger.head, write_round(ledger, 3, bonn=0.5), write_round(ledger, 4, bonn=0.5)]
    ledger.write("end", status="completed")
    heads.append(ledger.seal(4, last=True))
    ledger.close()
    assert wrong(path, heads, ended=True) == []  # the heads of the abandoned rounds too
    (resumed,) = Written.read(path).of("resumed")
    assert resumed["attempt"] == 2 and resumed["round"] == 2 and resumed["head"] == heads[2].digest
    assert [(one["round"], one["head"]) for one in resumed["abandons"]] == [(3, heads[3].digest), (4, heads[4].digest)]
    assert contradictions({"berlin": heads[:5], "bonn": heads[5:]}) == []


def test_a_run_may_be_resumed_again_and_again(path, key):
    _, state = interrupted(path, key, rounds=3, at=3)
    for attempt in (2, 3, 4):
        ledger = Ledger.restore(path, key, state)
        assert ledger.head.attempt == attempt
        write_round(ledger, state["round"] + 1)
        state = state if attempt == 3 else ledger.state()
        ledger.close()
    assert wrong(path) == []
    assert [len(one["abandons"]) for one in Written.read(path).of("resumed")] == [0, 0, 2]


def test_lines_of_a_round_that_was_not_over_stay_and_are_counted(path, key):
    _, state = interrupted(path, key, rounds=2, at=2)
    ledger = Ledger.restore(path, key, state)
    ledger.write("silo", round=3, silo="bonn")
    state = ledger.state()
    ledger.close()
    ledger = Ledger.restore(path, key, state)
    ledger.close()
    assert [one["unsealed"] for one in Written.read(path).of("resumed")] == [0, 1]
    assert wrong(path) == []


def test_a_ledger_that_is_not_the_checkpoints_is_refused_and_left_as_it_is(path, key, tmp_path):
    _, state = interrupted(path, key, rounds=3, at=2)
    whole = path.read_text()
    for change, said in (
        (lambda lines: lines[:6], "is not the ledger of this checkpoint"),
        (lambda lines: [line.replace("0.25", "0.26") for line in lines], "does not follow the one before it"),
    ):
        rewrite(path, change)
        before = path.read_text()
        with pytest.raises(InputError, match=said):
            Ledger.restore(path, key, state)
        assert path.read_text() == before
        path.write_text(whole)
    with pytest.raises(InputError, match="begun with another server key"):
        Ledger.restore(path, ServerKey.load(tmp_path / "another.key"), state)
    path.unlink()
    with pytest.raises(NotThere, match="put the file back"):
        Ledger.restore(path, key, state)


# -- keys ----------------------------------------------------------------------------------------------------------


def test_a_key_is_made_once_for_its_owner_alone_and_read_ever_after(tmp_path):
    path = tmp_path / "keys" / "server.key"
    made = ServerKey.load(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ServerKey.load(path).public == made.public and [one.name for one in path.parent.iterdir()] == ["server.key"]
    assert is_signed_by(made.public, made.sign(b"x"), b"x") and not is_signed_by(made.public, made.sign(b"x"), b"y")


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_is_no_key_is_told_in_a_sentence(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InputError, match="is no private key in PEM without a passphrase"):
        ServerKey.load(tmp_path / "key")


def test_a_key_of_another_kind_is_told_in_a_sentence(tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key").write_bytes(ec.generate_private_key(ec.SECP384R1()).private_bytes(*form))
    with pytest.raises(InputError, match="an Ed25519 key is expected"):
        ServerKey.load(tmp_path / "key")


def test_a_signature_is_that_of_rfc_8032():
    # RFC 8032, section 7.1, test 3
    public = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
    signature = (
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )
    assert is_signed_by(public, signature, bytes.fromhex("af82"))
    assert not is_signed_by(public, signature, bytes.fromhex("af83"))


# -- a silo keeps heads --------------------------------------------------------------------------------------------


def messages(heads):
    return [[{"lr": 0.1, "ledger-head": head.text()}] for head in heads]


def test_a_silo_keeps_each_head_once_in_a_file_of_the_run(path, key, tmp_path):
    heads = written(path, key)
    for message in messages([head for head in heads for _ in range(2)]):  # two exchanges a round
        keep_head(tmp_path / "heads", message, "bonn")
    assert read_heads(tmp_path / "heads") == heads
    assert [one.name for one in (tmp_path / "heads").iterdir()] == [f"{heads[0].run}.jsonl"]
    assert wrong(path, read_heads(tmp_path / "heads"), ended=True) == []


@pytest.mark.parametrize(
    "text",
    ["", "junk", "{}", "[]", 7, b"x", ["a"], "x" * 10_000, "[" * 1999],
)
def test_junk_in_place_of_a_head_is_not_kept_and_fails_nothing(tmp_path, text):
    assert keep_head(tmp_path / "heads", [{"ledger-head": text}], "bonn") is None
    assert not (tmp_path / "heads").exists()


def test_a_head_that_nobody_signed_or_with_a_path_in_it_is_not_kept(path, key, tmp_path, caplog):
    told = json.loads(written(path, key)[1].text())
    for changed in ({"round": 3}, {"run": "../../../../etc/passwd"}, {"lines": True}, {"more": 1}):
        message = [{"ledger-head": json.dumps({**told, **changed})}]
        assert keep_head(tmp_path / "heads", message, "bonn") is None
    assert not (tmp_path / "heads").exists() and caplog.text.count("it is not kept") == 4


def test_a_silo_that_is_told_two_stories_keeps_both_and_says_so(path, key, tmp_path, caplog):
    heads = written(path, key)
    forge(path, key, raise_bonn)
    for message in messages([heads[2], Written.read(path).heads[2]]):
        keep_head(tmp_path / "heads", message, "bonn")
    assert len(read_heads(tmp_path / "heads")) == 2
    assert "the server's ledger was changed" in caplog.text and "tell the other silos" in caplog.text
    assert contradictions({"bonn": read_heads(tmp_path / "heads")})


def test_a_full_disk_or_a_line_cut_off_costs_a_silo_no_message(path, key, tmp_path, caplog):
    heads = written(path, key)
    (tmp_path / "heads").write_text("a file where a folder belongs")
    assert keep_head(tmp_path / "heads", messages(heads)[0], "bonn") is None and "could not be kept" in caplog.text
    (tmp_path / "heads").unlink()
    keep_head(tmp_path / "heads", messages(heads)[0], "bonn")
    with (tmp_path / "heads" / f"{heads[0].run}.jsonl").open("a") as file:
        file.write('{"run":"')  # the machine went down as it wrote
    keep_head(tmp_path / "heads", messages(heads)[1], "bonn")
    assert read_heads(tmp_path / "heads") == heads[:2]


def test_a_file_that_holds_no_heads_is_told_by_line(tmp_path):
    (tmp_path / "heads.jsonl").write_text("no head\n")
    with pytest.raises(InputError, match=r"heads\.jsonl:1: this line is no head of a ledger"):
        read_heads(tmp_path / "heads.jsonl")
    with pytest.raises(NotThere, match="there is no such file"):
        read_heads(tmp_path / "gone.jsonl")


def test_a_head_is_the_same_after_a_message(path, key):
    head = written(path, key)[3]
    assert head_of(head.text()) == head and len(head.text()) < 500


# -- the model -----------------------------------------------------------------------------------------------------


def test_the_digest_of_a_model_is_another_for_another_name_shape_dtype_or_value():
    models = [
        {"w": np.zeros((2, 3), np.float32)},
        {"v": np.zeros((2, 3), np.float32)},
        {"w": np.zeros((3, 2), np.float32)},
        {"w": np.zeros((2, 3), np.int32)},
        {"w": np.ones((2, 3), np.float32)},
        {"w": np.zeros((2, 3), np.float32), "b": np.zeros(0, np.float32)},
    ]
    assert len({model_digest(model) for model in models}) == len(models)
    by_columns = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    assert model_digest({"w": by_columns}) == model_digest({"w": np.arange(6.0).reshape(2, 3)})
