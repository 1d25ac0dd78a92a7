"""A server on loopback that answers as a forecast service does, or in the ways in which one fails."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Body = Callable[[str], bytes]  # of the path and query that was asked for


@dataclass
class Plan:
    """How the server shall behave; may be changed while it runs."""

    body: Body = lambda _: b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    fault: str = ""  # hang, reset, slow header, slow body, cut, endless
    wait_s: float = 0.0
    asked: list[str] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def serving(plan: Plan) -> Iterator[str]:
    """The address of a server that follows the plan."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            plan.asked.append(self.path)
            plan.seen.append({name.lower(): value for name, value in self.headers.items()})
            time.sleep(plan.wait_s)
            try:
                self._answer()
            except OSError:
                self.close_connection = True  # who asked has had enough

        def _answer(self) -> None:
            if plan.fault == "hang":
                over.wait()
                return
            if plan.fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            body = plan.body(self.path)
            if plan.fault == "slow header":
                self._slowly(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
                return
            self.send_response(plan.status)
            headers = {"Content-Type": plan.content_type, "Content-Length": str(len(body)), **plan.headers}
            if plan.fault == "endless":
                del headers["Content-Length"]
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if plan.fault == "slow body":
                self._slowly(body)
            elif plan.fault == "cut":
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
            elif plan.fault == "endless":
                while not over.is_set():
                    self.wfile.write(b" " * (1 << 20))
            else:
                self.wfile.write(body)

        def _slowly(self, data: bytes) -> None:
            for byte in data:
                if over.wait(0.05):
                    return
                self.wfile.write(bytes([byte]))
                self.wfile.flush()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()
