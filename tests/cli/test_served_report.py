"""A federation's run with its page: served from the first event on, at one address, the whole run folder at the end."""

import re
import socket
from urllib.request import urlopen

import pytest
from scripted_runs import AGREES, ALIKE, Scripted

from fedlaw_flwr.cli.console import ServedReport, follow_run, watch_run
from fedlaw_flwr.core.errors import InputError
from fedlaw_flwr.deploy.federation import Federation

TEXT = """\
name: clinics
superlink: {host: localhost}
run: {max-byzantine: 1, num-rounds: 3}
silos: [{name: aachen}, {name: bonn}, {name: celle}, {name: dresden}]
"""


@pytest.fixture
def federation(tmp_path):
    (tmp_path / "federation.yaml").write_text(TEXT)
    return Federation.read(tmp_path / "federation.yaml")


def addresses(text):
    return re.findall(r"http://127\.0\.0\.1:\d+/", text)


def got(address):
    with urlopen(address, timeout=60) as page:
        return page.read().decode()


def test_the_page_of_a_run_is_there_while_it_goes_on_and_shows_its_whole_folder_at_the_end(
    federation, tmp_path, capsys, monkeypatch
):
    pages = []

    def go(show, begun):
        """A deployment: a copy of the run's folder while it goes on, the folder itself at the end."""
        copy = Scripted(tmp_path / "copy").learned(AGREES, ALIKE)
        begun(copy.folder)
        (address,) = addresses(capsys.readouterr().out)
        pages.append((address, got(address)))
        whole = Scripted(tmp_path / "run-1").learned(AGREES, ALIKE).frozen().end()
        return whole.folder

    def until_interrupted(served):
        pages.append((address := served.address, got(address)))

    monkeypatch.setattr(ServedReport, "stay", until_interrupted)
    with ServedReport(wanted=True, port=0) as page:
        follow_run(federation, {}, go, page)
    (first, begun), (last, ended) = pages
    assert first == last
    assert "1 of 3 rounds" in begun and "2 of 3 rounds" in ended and 'http-equiv="refresh"' not in ended
    with pytest.raises(OSError):
        got(last)
    assert (tmp_path / "run-1" / "report.html").exists()


def test_without_serve_nothing_is_served(federation, tmp_path, capsys):
    def go(show, begun):
        run = Scripted(tmp_path / "run-1").learned(AGREES, ALIKE)
        begun(run.folder)
        return run.end().folder

    with ServedReport(wanted=False, port=0) as page:
        follow_run(federation, {}, go, page)
        page.stay()
    assert not addresses(capsys.readouterr().out)


def test_a_taken_port_is_one_sentence(tmp_path):
    run = Scripted(tmp_path / "run").learned(AGREES, ALIKE).end()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port={port}: .*name another or 0 for a free one"):
            watch_run(run.folder, iter(()), "run", serve=True, port=port)
