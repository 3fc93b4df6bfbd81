"""The door of the page: who is let in, what is told to every browser, and how its server comes to an end."""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
import socket

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Door:
    """Lets in who knows the password, where there is one, and has browsers ask no other host for anything."""

    def __init__(self, app: ASGIApp, password: str | None) -> None:
        self.app, self.password = app, password

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"], headers["X-Content-Type-Options"] = POLICY, "nosniff"
                headers["Referrer-Policy"], headers["Cross-Origin-Resource-Policy"] = "no-referrer", "same-origin"
            await send(message)

        if self.password is not None and not self.knows(dict(scope["headers"]).get(b"authorization", b"")):
            refused = Response("a password is asked for", 401, {"WWW-Authenticate": 'Basic realm="bigsleep"'})
            return await refused(scope, receive, dressed)
        await self.app(scope, receive, dressed)

    def knows(self, header: bytes) -> bool:
        kind, _, told = header.partition(b" ")
        try:
            word = base64.b64decode(told, validate=True).partition(b":")[2] if kind.lower() == b"basic" else b""
        except binascii.Error:
            return False
        assert self.password is not None
        return secrets.compare_digest(word, self.password.encode())


class Server(uvicorn.Server):
    """A server of the page that ends its dream, and so the answers that wait for it, before it waits for them to end."""

    def __init__(self, app: Starlette) -> None:
        super().__init__(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1))
        self.close = app.state.close

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        closing = asyncio.ensure_future(self.close())
        while not (closing.done() or self.force_exit):
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)
