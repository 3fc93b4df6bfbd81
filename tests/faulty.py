"""A loopback web server that does what networks do, one play after the other."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Handler = http.server.BaseHTTPRequestHandler
Play = Callable[[Handler, bytes], None]
VERSION = '"first"'


@dataclass
class Host:
    """Files by path, what is played for each in turn (the last one again and again), and what was asked."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    plays: dict[str, list[Play]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def ranges(self) -> list[str | None]:
        """The Range of each request."""
        return [headers.get("Range") for _, headers in self.asked]


@contextlib.contextmanager
def serving(certificates: ssl.SSLContext | None = None) -> Iterator[Host]:
    host = Host()

    class Answering(Handler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            host.asked.append((self.path, dict(self.headers)))
            plays = host.plays.get(self.path, [whole if self.path in host.files else status(404)])
            play = plays.pop(0) if len(plays) > 1 else plays[0]
            with contextlib.suppress(ConnectionError):
                play(self, host.files.get(self.path, b""))

        def log_message(self, *_: object) -> None: ...

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *told: Any) -> None:
            if not isinstance(sys.exc_info()[1], ConnectionError):  # as when a client was killed
                super().handle_error(*told)

    server = Server(("127.0.0.1", 0), Answering)
    if certificates is not None:
        server.socket = certificates.wrap_socket(server.socket, server_side=True)
    host.url = f"{'http' if certificates is None else 'https'}://localhost:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield host
    server.shutdown()


def head(handler: Handler, status: int, **headers: object) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()


def whole(handler: Handler, data: bytes) -> None:
    """What a good server does, Range and If-Range included."""
    wanted = handler.headers.get("Range", "")
    if wanted and handler.headers.get("If-Range") == VERSION:
        offset = int(wanted.removeprefix("bytes=").removesuffix("-"))
        span = f"bytes {offset}-{len(data) - 1}/{len(data)}"
        head(handler, 206, Content_Range=span, Content_Length=len(data) - offset, ETag=VERSION)
        handler.wfile.write(data[offset:])
    else:
        head(handler, 200, Content_Length=len(data), ETag=VERSION)
        handler.wfile.write(data)


def without_range(handler: Handler, data: bytes) -> None:
    head(handler, 200, Content_Length=len(data))
    handler.wfile.write(data)


def of_another_version(handler: Handler, data: bytes) -> None:
    """Goes on where it was asked to, in a file that has changed meanwhile: If-Range is not looked at."""
    offset = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
    span = f"bytes {offset}-{len(data) - 1}/{len(data)}"
    head(handler, 206, Content_Range=span, Content_Length=len(data) - offset, ETag='"second"')
    handler.wfile.write(b"?" * (len(data) - offset))


def from_elsewhere(handler: Handler, data: bytes) -> None:
    """Another range than was asked for."""
    head(handler, 206, Content_Range=f"bytes 1-{len(data) - 1}/{len(data)}", Content_Length=len(data) - 1, ETag=VERSION)
    handler.wfile.write(data[1:])


def cut(count: int, play: Play = whole) -> Play:
    """``play``, but the connection ends after ``count`` bytes of the body."""
    return lambda handler, data: stopped(handler, data, count, play, lambda: None)


def reset(count: int) -> Play:
    """The connection is reset, as by a router that was switched off."""

    def slam() -> None:
        time.sleep(0.05)  # what was sent shall be read first

    def played(handler: Handler, data: bytes) -> None:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stopped(handler, data, count, whole, slam)

    return played


def stall(count: int) -> Play:
    """Nothing comes any more after ``count`` bytes of the body, and the connection stays."""
    return lambda handler, data: stopped(handler, data, count, whole, lambda: time.sleep(3))


def stopped(handler: Handler, data: bytes, count: int, play: Play, end: Callable[[], None]) -> None:
    class Short:
        left = count

        def write(self, block: bytes) -> None:
            wfile.write(block[: self.left])
            self.left -= min(self.left, len(block))

        def flush(self) -> None: ...

    wfile, headers_sent = handler.wfile, handler.end_headers

    def end_headers() -> None:
        headers_sent()
        handler.wfile = Short()  # type: ignore[assignment]

    handler.end_headers = end_headers  # type: ignore[method-assign]
    play(handler, data)
    handler.wfile = wfile
    end()
    handler.close_connection = True


def trickle(handler: Handler, data: bytes) -> None:
    """A byte now and then: never silent for long, and never done."""
    head(handler, 200, Content_Length=len(data), ETag=VERSION)
    for number in range(100):
        handler.wfile.write(data[number : number + 1])
        time.sleep(0.05)


def endless(handler: Handler, data: bytes) -> None:
    """No length, and no end."""
    handler.close_connection = True
    head(handler, 200, ETag=VERSION)
    while True:
        handler.wfile.write(b"x" * 65536)


def chunked(handler: Handler, data: bytes) -> None:
    """A whole file whose length is not said before."""
    head(handler, 200, Transfer_Encoding="chunked", ETag=VERSION)
    for begin in range(0, len(data), 1000):
        block = data[begin : begin + 1000]
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(block), block))
    handler.wfile.write(b"0\r\n\r\n")


def status(code: int, body: bytes = b"", **headers: object) -> Play:
    def played(handler: Handler, _: bytes) -> None:
        head(handler, code, Content_Length=len(body), **headers)
        handler.wfile.write(body)

    return played


def saying(**headers: object) -> Play:
    """A whole file, with other headers."""

    def played(handler: Handler, data: bytes) -> None:
        head(handler, 200, **({"Content_Length": len(data)} | headers))
        handler.wfile.write(data)

    return played
