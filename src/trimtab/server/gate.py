"""The gate: what every request has to pass before a route sees it.

It is judged by the path that is routed and by raw headers, never by an address that is put together from ``Host``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import re
import time
from collections.abc import Sequence
from typing import final
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trimtab.server.errors import RequestError, error_json, shaped_for
from trimtab.server.keys import ANYONE, CALLER, Key, Role, find_key
from trimtab.server.limits import Pace
from trimtab.server.page import FILES
from trimtab.server.records import RECORD, Record
from trimtab.server.runlog import RunLog
from trimtab.server.settings import MAX_HEADER_BYTES, MAX_HEADERS, ServerSettings

logger = logging.getLogger("trimtab.server.requests")
# Paths that need no key: probes, and the page, which asks for the key itself.
OPEN = frozenset({"/healthz", "/readyz", *FILES})
METRICS = "/metrics"
UPLOADS = "/v1/vectors/"  # beginning of the paths that take files
# What is asked without changing anything for others; all else that is more than reading needs the role ``manage``.
QUESTIONS = frozenset(
    {
        "/v1/behaviours/draft",
        "/v1/behaviours/lint",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/decisions",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/pairs/preview",
        "/v1/read",
        "/v1/responses",
        "/v1/steering/check",
    }
)
RESPONSES = "/v1/responses/"  # clients delete what they have stored
JOBS = "/v1/jobs"  # nor are they seen by others
READS = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
WILDCARDS = frozenset({"0.0.0.0", "::"})
HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(:[0-9]{1,5})?")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@final
class Gate:
    """ASGI middleware that refuses requests by host, origin, key, pace and size.

    Args:
        app: The application behind it.
        settings: The server's settings.
        keys: Keys of clients; anyone may ask without any.
        run_log: Where all requests are written down.
    """

    def __init__(
        self, app: ASGIApp, *, settings: ServerSettings, keys: Sequence[Key] = (), run_log: RunLog | None = None
    ) -> None:
        self._app = app
        self._settings = settings
        self._keys = tuple(keys)
        self._hosts = _allowed_hosts(settings, guarded=bool(keys))
        self._pace = Pace(settings.requests_per_minute, what="requests")
        self._run_log = run_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        given_id = headers.get("x-request-id", [""])[0]
        record = Record(
            id=given_id if REQUEST_ID.fullmatch(given_id) else uuid4().hex,
            method=scope["method"],
            path=scope["path"],
            receive=receive,
        )

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", record.id.encode())]}
            await send(message)

        try:
            key = self._admitted(scope, headers)
            record.client = key.name
            received = await self._read(scope, headers, receive)
        except RequestError as error:
            await _refuse(error, answer, path=record.path)
        else:
            tokens = CALLER.set(key), RECORD.set(record)
            try:
                await self._app(scope, received, answer)
            except Exception:
                record.status = record.status or 500
                raise
            finally:
                CALLER.reset(tokens[0])
                RECORD.reset(tokens[1])
        finally:
            self._note(record)

    def _admitted(self, scope: Scope, headers: dict[str, list[str]]) -> Key:
        """Return whose request it is.

        Raises:
            RequestError: It may not pass.
        """
        if len(scope["headers"]) > MAX_HEADERS or sum(len(n) + len(v) for n, v in scope["headers"]) > MAX_HEADER_BYTES:
            raise RequestError("the headers are too many or too long", fix="send fewer", status=431, code="bad_headers")
        host = self._checked_host(headers.get("host", []))
        self._check_origin(headers.get("origin", []), host, scheme=scope.get("scheme", "http"))
        path, method = scope["path"], scope["method"]
        if path in OPEN or not self._keys or (path == METRICS and self._settings.open_metrics):
            return ANYONE
        key = find_key(self._keys, _given_key(headers))
        if key is None:
            raise RequestError(
                "this server needs a key",
                fix="send 'Authorization: Bearer KEY' with a key that it knows",
                status=401,
                code="invalid_api_key",
            )
        if method not in READS:
            self._pace.check(key.name)
            self._pace.use(key.name)
        if (role := role_for(method, path)) not in key.roles:
            raise RequestError(
                f"this key does not have the role {role!r}", fix="use one that has it", status=403, code="forbidden"
            )
        return key

    def _checked_host(self, hosts: Sequence[str]) -> str:
        """Return the host that was asked; a page elsewhere that points its own name here is refused by it."""
        host = hosts[0].lower() if len(hosts) == 1 else ""
        matched = HOST.fullmatch(host)
        if matched is None:
            raise RequestError("the header Host is missing or malformed", fix="send one host name", code="bad_host")
        if self._hosts is not None and matched[1] not in self._hosts and not _is_address(matched[1]):
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

    async def _read(self, scope: Scope, headers: dict[str, list[str]], receive: Receive) -> Receive:
        """Read the body within its limits, and return what hands it on.

        A body is small and is read before any work, so that a slow or an endless one occupies nothing else.

        Raises:
            RequestError: It is too large or too slow.
        """
        settings = self._settings
        upload = scope["path"].startswith(UPLOADS) and scope["method"] == "PUT"
        limit = settings.max_upload_bytes if upload else settings.max_body_bytes
        lengths = headers.get("content-length", ["0"])
        if len(lengths) != 1 or not lengths[0].isascii() or not lengths[0].isdigit():
            raise RequestError("the header Content-Length is malformed", fix="send one number", code="bad_length")
        if len(lengths[0]) > 18 or int(lengths[0]) > limit:
            raise _too_large(limit)
        counted = _counted(receive, limit=limit, seconds=settings.body_seconds)
        if upload:
            return counted  # which the route writes to a file as it comes
        messages = [await counted()]
        while messages[-1].get("more_body", False):
            messages.append(await counted())
        messages.reverse()

        async def handed_on() -> Message:
            return messages.pop() if messages else await receive()

        return handed_on

    def _note(self, record: Record) -> None:
        """Log a request; those of probes are left out."""
        if record.path in OPEN or record.path == METRICS:
            return
        record.seconds = time.monotonic() - record.begun
        if self._settings.log_requests:
            logger.info(json.dumps(record.line()))  # one line of ASCII, which no text of a client can break
        if self._run_log is not None:
            self._run_log.add(record)


def _counted(receive: Receive, *, limit: int, seconds: float) -> Receive:
    """Return a ``receive`` that raises once a body is too large or too slow, whatever its headers say."""
    size, more, end = 0, True, time.monotonic() + seconds

    async def counted() -> Message:
        nonlocal size, more
        if not more:
            return await receive()
        try:
            async with asyncio.timeout(max(end - time.monotonic(), 0)):
                message = await receive()
        except TimeoutError:
            raise RequestError(
                f"the body was not there within {seconds:g} s", fix="send it faster", status=408, code="slow_body"
            ) from None
        size += len(message.get("body", b""))
        more = message["type"] == "http.request" and message.get("more_body", False)
        if size > limit:
            raise _too_large(limit)
        return message

    return counted


def role_for(method: str, path: str) -> Role:
    """Return the role that a request needs."""
    if path == JOBS or path.startswith(f"{JOBS}/"):
        return "manage"
    return "use" if method in READS or path in QUESTIONS or path.startswith(RESPONSES) else "manage"


def _is_address(host: str) -> bool:
    """Return True for an address made of numbers: no page can make that lead elsewhere."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _allowed_hosts(settings: ServerSettings, *, guarded: bool) -> frozenset[str] | None:
    """Return the host names under which the server may be asked; None if any will do, as keys guard it."""
    if (settings.host in WILDCARDS and guarded and not settings.allowed_hosts) or "*" in settings.allowed_hosts:
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


async def _refuse(error: RequestError, send: Send, *, path: str) -> None:
    body = json.dumps(shaped_for(path, error_json(error))).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if error.http_status in (408, 413):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    if error.http_status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.retry_after is not None:
        headers.append((b"retry-after", str(error.retry_after).encode()))
    await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
