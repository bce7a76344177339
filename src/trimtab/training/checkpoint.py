"""Results of interrupted work, so that they need not be computed again.

Training and distillation are deterministic. So it is enough to keep the result of each expensive step under a key:
work that is started again with the same arguments runs through the same steps and finds the results. What costs little,
or is too large to keep (hidden states), is computed again.
"""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from trimtab.errors import InUseError, OutputError

JOB = "job"
T = TypeVar("T")


@final
class Checkpoint:
    """Results by key, in one SQLite file that survives a kill at any moment; or, without a path, nowhere.

    Args:
        path: The file; created if missing. It stays locked until ``close``.
        job: The work that the results belong to. Results of another job are deleted.

    Raises:
        OutputError: The file cannot be written, or another process is using it.
    """

    def __init__(self, path: Path | None = None, *, job: str = "") -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None)  # every statement commits
            # Held for as long as the file is open: two runs with one checkpoint would delete it under each other.
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("BEGIN EXCLUSIVE")
            self._connection.execute("CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, value BLOB NOT NULL)")
            if self.get(JOB) != job.encode():
                self._connection.execute("DELETE FROM results")
                self.put(JOB, job.encode())
            self._connection.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise self._cannot_write(error) from None

    @property
    def active(self) -> bool:
        """Return True if results are kept in a file."""
        return self._connection is not None

    def __len__(self) -> int:
        if self._connection is None:
            return 0
        return int(self._connection.execute("SELECT count(*) FROM results").fetchone()[0]) - 1

    def get(self, key: str) -> bytes | None:
        """Return the bytes kept under a key, or None."""
        if self._connection is None:
            return None
        row = self._connection.execute("SELECT value FROM results WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def put(self, key: str, value: bytes) -> None:
        """Keep bytes under a key, replacing what was there.

        Raises:
            OutputError: The disk is full.
        """
        if self._connection is None:
            return
        try:
            self._connection.execute("INSERT OR REPLACE INTO results VALUES (?, ?)", (key, value))
        except sqlite3.Error as error:
            raise self._cannot_write(error) from None

    def remember(self, key: str, kind: Any, compute: Callable[[], T]) -> T:
        """Return the result kept under a key, or compute and keep it.

        Args:
            key: Names the computation and whatever it depends on within the job.
            kind: Type of the result: anything that pydantic reads back from JSON. Floats survive bit for bit.
            compute: Called if nothing is kept.
        """
        if not self.active:
            return compute()
        adapter: TypeAdapter[T] = TypeAdapter(kind)
        if (saved := self.get(key)) is not None:
            return adapter.validate_json(saved)
        value = compute()
        self.put(key, json.dumps(adapter.dump_python(value)).encode())  # json writes infinities, pydantic does not
        return value

    def get_arrays(self, key: str) -> dict[str, NDArray[Any]] | None:
        """Return the arrays kept under a key, or None; for state that grows while one step is computed."""
        if (saved := self.get(key)) is None:
            return None
        with np.load(io.BytesIO(saved), allow_pickle=False) as arrays:
            return dict(arrays)

    def put_arrays(self, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep named arrays under a key, replacing what was there."""
        if self.active:
            buffer = io.BytesIO()
            np.savez(buffer, allow_pickle=False, **arrays)
            self.put(key, buffer.getvalue())

    def close(self) -> None:
        """Leave the file for later."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def delete(self) -> None:
        """Close and delete the file: the work is done."""
        self.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _cannot_write(self, error: Exception) -> OutputError:
        if "locked" in str(error):
            fix = "wait for the other run, or choose another output"
            return InUseError(f"the checkpoint {str(self.path)!r} is in use by another process", fix=fix)
        fix = "free the disk, or choose another place (in the cache: set TRIMTAB_CACHE)"
        return OutputError(f"the checkpoint {str(self.path)!r} cannot be written: {error}", fix=fix)


NO_CHECKPOINT = Checkpoint()


def clear_checkpoint(path: Path) -> None:
    """Delete the results in a checkpoint, if it exists and no other process has it open.

    Raises:
        InUseError: One has.
        OutputError: The file cannot be written.
    """
    Checkpoint(path).delete()


@contextmanager
def open_checkpoint(path: str | Path | None, *, job: str) -> Iterator[Checkpoint]:
    """Open a checkpoint for the work inside: closed for later if that is interrupted, deleted when it is done."""
    checkpoint = Checkpoint(None if path is None else Path(path), job=job)
    try:
        yield checkpoint
    except BaseException:
        checkpoint.close()
        raise
    checkpoint.delete()
