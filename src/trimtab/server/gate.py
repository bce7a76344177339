"""The gate: what every request has to pass before a route sees it.

It is judged by the path that is routed and by raw headers, never by an address that is put together from ``Host``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trimtab.server.errors import RequestError, error_json
from trimtab.server.keys import ANYONE, CALLER, Key, find_key
from trimtab.server.settings import ServerSettings

logger = logging.getLogger("trimtab.server.requests")
OPEN = frozenset({"/healthz", "/readyz"})  # paths that need no key
UPLOADS = "/v1/vectors/"  # beginning of the paths that take files
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
WILDCARDS = frozenset({"0.0.0.0", "::", "[::]"})
HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(:[0-9]{1,5})?")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
BODIES = frozenset({"POST", "PUT", "PATCH"})


@dataclass
class _Bucket:
    """Requests that a client may still send; it fills up with time."""

    left: float
    at: float


@final
class Gate:
    """ASGI middleware that refuses requests by host, origin, key, pace and size.

    Args:
        app: The application behind it.
        settings: The server's settings.
        keys: Keys of clients; anyone may ask without any.
    """

    def __init__(self, app: ASGIApp, *, settings: ServerSettings, keys: Sequence[Key] = ()) -> None:
        self._app = app
        self._settings = settings
        self._keys = tuple(keys)
        self._hosts = _allowed_hosts(settings)
        self._buckets: dict[str, _Bucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.monotonic(), 0
        headers = _headers(scope)
        given_id = headers.get("x-request-id", [""])[0]
        request_id = given_id if REQUEST_ID.fullmatch(given_id) else uuid4().hex
        key = ANYONE

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id.encode())]}
            await send(message)

        try:
            key = self._admitted(scope, headers)
            received = await self._read(scope, headers, receive)
        except RequestError as error:
            await _refuse(error, answer)
        else:
            token = CALLER.set(key)
            try:
                await self._app(scope, received, answer)
            finally:
                CALLER.reset(token)
        finally:
            if self._settings.log_requests:
                _log(scope, request_id, key, status, time.monotonic() - begun)

    def _admitted(self, scope: Scope, headers: dict[str, list[str]]) -> Key:
        """Return whose request it is.

        Raises:
            RequestError: It may not pass.
        """
        host = self._checked_host(headers.get("host", []))
        self._check_origin(headers.get("origin", []), host, scheme=scope.get("scheme", "http"))
        if scope["path"] in OPEN or not self._keys:
            return ANYONE
        key = find_key(self._keys, _given_key(headers))
        if key is None:
            raise RequestError(
                "this server needs a key",
                fix="send 'Authorization: Bearer KEY' with a key that it knows",
                status=401,
                code="invalid_api_key",
            )
        if scope["method"] in BODIES:
            self._check_pace(key)
        return key

    def _checked_host(self, hosts: Sequence[str]) -> str:
        """Return the host that was asked; a page elsewhere that points its own name here is refused by it."""
        host = hosts[0].lower() if len(hosts) == 1 else ""
        matched = HOST.fullmatch(host)
        if matched is None:
            raise RequestError("the header Host is missing or malformed", fix="send one host name", code="bad_host")
        if self._hosts is not None and matched[1] not in self._hosts:
            raise RequestError(
                "this server is not asked under that host name",
                fix=f"use http://{self._settings.host}:{self._settings.port}, or start it with --allowed-host",
                status=403,
                code="bad_host",
            )
        return host

    def _check_origin(self, origins: Sequence[str], host: str, *, scheme: str) -> None:
        """Refuse requests that a web page from elsewhere makes."""
        for origin in origins:
            if origin.lower() != f"{scheme}://{host}" and origin not in self._settings.allowed_origins:
                raise RequestError(
                    "requests of web pages from elsewhere are not taken",
                    fix="start the server with --allowed-origin",
                    status=403,
                    code="bad_origin",
                )

    def _check_pace(self, key: Key) -> None:
        pace = self._settings.requests_per_minute
        if pace is None:
            return
        now = time.monotonic()
        bucket = self._buckets.setdefault(key.name, _Bucket(pace, now))
        bucket.left = min(pace, bucket.left + (now - bucket.at) * pace / 60)
        bucket.at = now
        if bucket.left < 1:
            raise RequestError(
                f"this key has sent more than {pace} requests in a minute",
                fix="send them more slowly",
                status=429,
                code="rate_limit_exceeded",
                retry_after=max(1, round((1 - bucket.left) * 60 / pace)),
            )
        bucket.left -= 1

    async def _read(self, scope: Scope, headers: dict[str, list[str]], receive: Receive) -> Receive:
        """Read the body within its limits, and return what hands it on.

        A body is small and is read before any work, so that a slow or an endless one occupies nothing else.

        Raises:
            RequestError: It is too large or too slow.
        """
        settings = self._settings
        limit = settings.max_upload_bytes if scope["path"].startswith(UPLOADS) else settings.max_body_bytes
        lengths = headers.get("content-length", ["0"])
        if len(lengths) != 1 or not lengths[0].isascii() or not lengths[0].isdigit():
            raise RequestError("the header Content-Length is malformed", fix="send one number", code="bad_length")
        if len(lengths[0]) > 18 or int(lengths[0]) > limit:
            raise _too_large(limit)
        messages = []
        try:
            async with asyncio.timeout(settings.body_seconds):
                size, more = 0, True
                while more:
                    message = await receive()
                    messages.append(message)
                    size += len(message.get("body", b""))
                    more = message["type"] == "http.request" and message.get("more_body", False)
                    if size > limit:
                        raise _too_large(limit)
        except TimeoutError:
            raise RequestError(
                f"the body was not there within {settings.body_seconds:g} s",
                fix="send it faster",
                status=408,
                code="slow_body",
            ) from None
        messages.reverse()

        async def handed_on() -> Message:
            return messages.pop() if messages else await receive()

        return handed_on


def _allowed_hosts(settings: ServerSettings) -> frozenset[str] | None:
    """Return the host names under which the server may be asked; None if any will do, where keys guard it."""
    if settings.host in WILDCARDS and not settings.allowed_hosts:
        return None
    own = f"[{settings.host}]" if ":" in settings.host else settings.host
    return LOOPBACK | {own.lower(), *(host.lower() for host in settings.allowed_hosts)}


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _given_key(headers: dict[str, list[str]]) -> str:
    kind, _, key = headers.get("authorization", [""])[0].partition(" ")
    return key.strip() if kind.lower() == "bearer" else headers.get("x-api-key", [""])[0]


def _too_large(limit: int) -> RequestError:
    return RequestError(
        f"the body has more than {limit:,} bytes", fix="send less", status=413, code="request_too_large"
    )


async def _refuse(error: RequestError, send: Send) -> None:
    body = json.dumps(error_json(error)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if error.http_status in (408, 413):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    if error.http_status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.retry_after is not None:
        headers.append((b"retry-after", str(error.retry_after).encode()))
    await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _log(scope: Scope, request_id: str, key: Key, status: int, seconds: float) -> None:
    """Log a request as one line of JSON, which no path can break; what it says is not in it."""
    line: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "id": request_id,
        "key": key.name,
        "method": scope["method"],
        "path": scope["path"][:200],
        "status": status,
        "seconds": round(seconds, 3),
    }
    logger.info(json.dumps(line))
