# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that answers as the Hub does, on this machine."""

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from backend.errors import Progress, no_progress
from backend.facelift import weights as facelift_weights

CONTENT = {name: f'{{"text": "{name * 9}"}}'.encode() for name in facelift_weights.FILES}
CONTENT[facelift_weights.GSLRM] = bytes(range(256)) * 200_000  # 51 MB


class Hub:
    """A server that answers as the Hub does, on this machine.

    asked: file and Range of every request for content. refusals: the statuses of the next answers, if they are others.
    page: what a network that wants a login answers to everything.
    """

    def __init__(self):
        self.content = dict(CONTENT)
        self.asked: list[tuple[str, str | None]] = []
        self.ranges = True
        self.broken_after: int | None = None  # bytes
        self.refusals: list[int] = []
        self.page: bytes | None = None
        hub_server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                hub_server.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        stored = f"/{facelift_weights.REPOSITORY}/resolve/{facelift_weights.REVISION}/"
        name = request.path.removeprefix(stored).removeprefix("/elsewhere/")
        if facelift_weights.FILES.get(name) and request.path.startswith(stored):  # the Hub keeps weights elsewhere
            request.send_response(302)
            request.send_header("Location", f"{self.address}/elsewhere/{name}")
            request.send_header("Content-Length", "0")
            return request.end_headers()
        wanted = request.headers.get("Range")
        self.asked.append((name, wanted))
        if self.refusals:
            request.send_response(self.refusals.pop(0))
            request.send_header("Retry-After", "0")
            request.send_header("Content-Length", "0")
            return request.end_headers()
        if self.page is not None:
            request.send_response(200)
            request.send_header("Content-Type", "text/html; charset=utf-8")
            request.send_header("Content-Length", str(len(self.page)))
            request.end_headers()
            request.wfile.write(self.page)
            return None
        body = self.content.get(name)
        if body is None:
            return request.send_error(404)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if start >= len(body):
            return request.send_error(416)
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        with suppress(OSError):  # the client may hang up
            request.wfile.write(body[start : self.broken_after])

    def download(self, folder: Path, progress: Progress = no_progress) -> facelift_weights.FaceLiftWeights:
        return facelift_weights.download_weights(True, folder, progress, self.address)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
