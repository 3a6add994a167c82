"""The report of a run over HTTP on this machine alone, made anew as the run goes on."""

from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

from fedlaw_flwr.events.folder import EVENTS
from fedlaw_flwr.reporting.report import report_text

HOST = "127.0.0.1"


class ReportServer(ThreadingHTTPServer):
    """Serves `/`, the report of one run beside others, and `/events.jsonl`; only to this machine.

    Args:
        folder: The run's folder.
        others: Runs laid beside it.
        port: 0 takes a free port; `address` says which.
    """

    daemon_threads = True

    def __init__(self, folder: Path, others: Sequence[Path] = (), port: int = 0) -> None:
        super().__init__((HOST, port), _Handler)
        self.folder, self._others = folder, others
        self._made: tuple[list[int], bytes] | None = None
        self._lock = Lock()

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{HOST}:{self.server_address[1]}/"

    def page(self) -> bytes:
        """The report as of now; made again only after the run wrote something."""
        sizes = [(folder / EVENTS).stat().st_size for folder in (self.folder, *self._others)]
        with self._lock:
            if self._made is None or self._made[0] != sizes:
                self._made = sizes, report_text(self.folder, *self._others, live=True).encode()
            return self._made[1]


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer

    def do_GET(self) -> None:
        # A page elsewhere whose name was made to point here must not read the run: the browser says that name.
        host = (self.headers.get("Host") or "").rpartition(":")[0]
        if host not in (HOST, "localhost"):
            self.send_error(403)
        elif self.path == "/":
            self._send(self.server.page(), "text/html; charset=utf-8")
        elif self.path == f"/{EVENTS}":
            self._send((self.server.folder / EVENTS).read_bytes(), "application/x-ndjson")
        else:
            self.send_error(404)

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the terminal shows the run."""
