"""A stand-in for api.carbonintensity.org.uk on loopback, so that cats can be measured without the Internet.

Speaks CONNECT like a proxy and then TLS with a certificate of its own: cats is led here by HTTPS_PROXY and
REQUESTS_CA_BUNDLE, and runs unchanged.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

NAME = "api.carbonintensity.org.uk"
FORM = "%Y-%m-%dT%H:%MZ"


class Service:
    """Serves one series of intensities, half hour by half hour, after a delay that can be set."""

    def __init__(self, folder: Path, series: dict[datetime, int]) -> None:
        self.series = series
        self.answer_after_s = 0.0
        self.requests = 0
        self.certificate, key = folder / "ca.pem", folder / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}", "-addext",
             f"subjectAltName=DNS:{NAME}", "-keyout", key, "-out", self.certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        self.certificate.chmod(0o644)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(self.certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(connection, peer), daemon=True).start()

    def _serve(self, connection: socket.socket, peer: object) -> None:
        with contextlib.suppress(OSError):
            if connection.recv(8, socket.MSG_PEEK).startswith(b"CONNECT"):
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += connection.recv(1)
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with self._tls.wrap_socket(connection, server_side=True) as wrapped:
                self._handler()(wrapped, peer, None)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                service.requests += 1
                time.sleep(service.answer_after_s)
                body = json.dumps(service.body(self.path.strip("/").split("/"))).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words: object) -> None:
                return

        return Handler

    def body(self, words: list[str]) -> dict[str, object]:
        """The answer to /regional/intensity/FROM/fw48h/postcode/CODE: 96 half hours."""
        begin = datetime.strptime(words[2], FORM).replace(tzinfo=UTC)
        begin = begin.replace(minute=begin.minute // 30 * 30)
        rows = []
        for i in range(96):
            start = begin + i * timedelta(minutes=30)
            value = {"forecast": self.series[start], "index": "moderate"}
            end = start + timedelta(minutes=30)
            rows.append({"from": start.strftime(FORM), "to": end.strftime(FORM), "intensity": value, "generationmix": []})
        region = {"regionid": 12, "dnoregion": "South", "shortname": "South England", "postcode": words[-1]}
        return {"data": {**region, "data": rows}}
