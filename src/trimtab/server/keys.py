"""Keys of clients: who may use the server, and who may manage it."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import tomllib
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from trimtab.errors import OutputError

Role: TypeAlias = Literal["use", "manage"]
ROLES: tuple[Role, ...] = get_args(Role)
ENVIRONMENT = "TRIMTAB_API_KEY"  # variable with the key of a server for one client
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PREFIX = "tt-"  # by which scanners of leaked secrets know a key
LEAST, MOST = 16, 512  # characters of a key


@dataclass(frozen=True)
class Key:
    """A client's key, of which only the digest is kept.

    Attributes:
        name: Of the client, for logs and fairness.
        digest: SHA-256 of the key.
        roles: ``use`` to ask, ``manage`` to change vectors, presets and jobs.
    """

    name: str
    digest: bytes
    roles: frozenset[Role] = frozenset({"use"})


ANYONE = Key("", b"", frozenset(ROLES))  # who asks a server without keys
CALLER: ContextVar[Key] = ContextVar("trimtab_caller", default=ANYONE)  # of the request that is being answered


def new_key() -> tuple[str, str]:
    """Return a new key, and its SHA-256 in hexadecimal for the file of keys."""
    key = PREFIX + secrets.token_urlsafe(32)
    return key, digest_of(key).hex()


def digest_of(key: str) -> bytes:
    """Return the SHA-256 of a key."""
    return hashlib.sha256(key.encode()).digest()


def find_key(keys: Sequence[Key], given: str) -> Key | None:
    """Return the key that a client gave; all are compared, in a time that does not depend on which it is."""
    digest, found = digest_of(given), None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def environment_key(key: str) -> Key:
    """Return the key of the environment variable, which has all roles.

    Raises:
        OutputError: It is too short.
    """
    return _key({"name": "environment", "key": key, "roles": list(ROLES)}, where=ENVIRONMENT, fix="make one: --new-key")


def read_keys(path: Path) -> tuple[Key, ...]:
    """Read a file of keys, in TOML.

    Example of a file::

        [[keys]]
        name = "shop"
        sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
        roles = ["use"]

    Raises:
        OutputError: It cannot be read, or is no such file.
    """
    fix = 'write [[keys]] with a name, sha256 = "…" or key = "…", and roles = ["use"]'
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8")).get("keys")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OutputError(f"the keys in {path} cannot be read: {error}", fix=fix) from None
    if not isinstance(given, list) or not given:
        raise OutputError(f"there are no keys in {path}", fix=fix)
    keys = tuple(_key(entry, where=str(path), fix=fix) for entry in given)
    for what in ("name", "digest"):
        if len({getattr(key, what) for key in keys}) < len(keys):
            raise OutputError(f"two keys in {path} have the same {what}", fix="give each client a key of its own")
    return keys


def _key(entry: Any, *, where: str, fix: str) -> Key:
    known = {"name", "key", "sha256", "roles"}
    if not isinstance(entry, dict) or entry.keys() - known or not NAME.fullmatch(str(entry.get("name", ""))):
        raise OutputError(
            f"a key in {where} has no name of letters, digits and ._-, or other fields than {', '.join(sorted(known))}",
            fix=fix,
        )
    name, roles = entry["name"], entry.get("roles", ["use"])
    if not isinstance(roles, list) or not roles or not set(map(str, roles)) <= set(ROLES):
        raise OutputError(f"the roles of the key {name!r} are not among {', '.join(ROLES)}", fix=fix)
    key, digest = entry.get("key"), entry.get("sha256")
    if (key is None) == (digest is None):
        raise OutputError(f"the key {name!r} has not one of sha256 and key", fix=fix)
    if key is not None:
        if not isinstance(key, str) or not LEAST <= len(key) <= MOST:
            raise OutputError(
                f"the key {name!r} does not have {LEAST} to {MOST} characters", fix="let --new-key make one"
            )
        return Key(name, digest_of(key), frozenset(roles))
    try:
        found = bytes.fromhex(str(digest))
    except ValueError:
        found = b""
    if len(found) != hashlib.sha256().digest_size:
        raise OutputError(f"the sha256 of the key {name!r} does not have 64 hexadecimal digits", fix=fix)
    return Key(name, found, frozenset(roles))
