"""A web server that misbehaves on purpose."""

import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Request(NamedTuple):
    range: str | None
    if_range: str | None


class Server(http.server.ThreadingHTTPServer):
    """Serves `data` at every path; the attributes say how it misbehaves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = b""
        self.etag: str | None = '"one"'
        self.date: str | None = None
        self.ranges = True
        self.honours_if_range = True
        self.announces_length = True
        self.statuses: list[int] = []  # answered first, one a request
        self.headers: dict[str, str] = {}  # sent in place of what is true
        self.changes: list[tuple[bytes, str]] = []  # data and ETag from the next request on
        self.redirects = False  # to itself, for ever
        self.drop_after: list[int] = []  # bytes sent before each further answer is cut off
        self.requests: list[Request] = []
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/some/LA.zip"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(Request(self.headers["Range"], self.headers["If-Range"]))
        if server.statuses:
            self.send_error(server.statuses.pop(0))
            return
        if server.redirects:
            self.send_response(302)
            self.send_header("Location", server.url)
            self.end_headers()
            return
        start = self.start_of_answer()
        if start >= len(server.data) > 0:
            self.send_error(416)
            return
        body = server.data[start:]
        self.send_response(206 if start else 200)
        told = {"ETag": server.etag, "Last-Modified": server.date}
        if start:
            told["Content-Range"] = f"bytes {start}-{len(server.data) - 1}/{len(server.data)}"
        if server.announces_length:
            told["Content-Length"] = str(len(body))
        lies = {name: value for name, value in server.headers.items() if start or name != "Content-Range"}
        for name, value in (told | lies).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if server.changes:
            server.data, server.etag = server.changes.pop(0)
        body = body[: server.drop_after.pop(0)] if server.drop_after else body
        self.wfile.write(body)
        server.sent += len(body)

    def start_of_answer(self) -> int:
        condition = self.headers["If-Range"]
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        changed = self.server.honours_if_range and condition not in (None, self.server.etag, self.server.date)
        return int(wanted[1]) if wanted and self.server.ranges and not changed else 0

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    """A server that runs in a thread of its own."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def noise(size: int, seed: int = 0) -> bytes:
    return b"".join(hashlib.sha256(f"{seed} {k}".encode()).digest() for k in range(size // 32 + 1))[:size]
