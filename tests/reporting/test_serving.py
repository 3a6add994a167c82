"""The report over HTTP: on this machine alone, made anew as the run goes on."""

import threading
from contextlib import contextmanager
from http.client import HTTPConnection

from scripted_runs import AGREES, ALIKE, Scripted

from fedlaw_flwr.reporting.serving import ReportServer


@contextmanager
def serving(folder):
    server = ReportServer(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def got(server, path="/", host=None):
    connection = HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def test_the_page_follows_the_run_and_stops_loading_again_when_it_ends(tmp_path):
    run = Scripted(tmp_path).learned(AGREES, ALIKE)
    with serving(tmp_path) as server:
        status, before = got(server)
        assert status == 200 and 'http-equiv="refresh"' in before and "1 of 3 rounds" in before
        run.frozen().end()
        _, after = got(server)
        assert "2 of 3 rounds" in after and 'http-equiv="refresh"' not in after


def test_it_gives_the_events_and_nothing_else(tmp_path):
    Scripted(tmp_path).learned(AGREES, ALIKE)
    with serving(tmp_path) as server:
        assert got(server, "/events.jsonl") == (200, (tmp_path / "events.jsonl").read_text())
        for path in ("/settings.json", "/../settings.json", "/%2e%2e/", "/model.safetensors"):
            assert got(server, path)[0] == 404


def test_a_name_that_was_made_to_point_at_this_machine_is_refused(tmp_path):
    Scripted(tmp_path).learned(AGREES, ALIKE)
    with serving(tmp_path) as server:
        port = server.server_address[1]
        assert got(server, host=f"evil.example:{port}")[0] == 403
        assert got(server, host=f"localhost:{port}")[0] == 200


def test_it_listens_on_this_machine_alone(tmp_path):
    Scripted(tmp_path).learned(AGREES, ALIKE)
    with serving(tmp_path) as server:
        assert server.server_address[0] == "127.0.0.1" and server.address.startswith("http://127.0.0.1:")
