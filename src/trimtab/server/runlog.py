"""Log of runs in SQLite: one row for each request, written by a thread of its own."""

from __future__ import annotations

import json
import logging
import sqlite3
from pathlib import Path
from queue import Full, Queue
from threading import Thread
from typing import final

from trimtab.errors import OutputError
from trimtab.server.records import Record

logger = logging.getLogger("trimtab.server")
QUEUED = 10_000  # rows that may wait for a slow disk; later ones are left out
BATCH = 500  # rows of a transaction
TABLE = """CREATE TABLE IF NOT EXISTS runs (
    id TEXT NOT NULL, time REAL NOT NULL, key TEXT NOT NULL, path TEXT NOT NULL, model TEXT NOT NULL,
    status INTEGER NOT NULL, seconds REAL NOT NULL, first_token REAL, steering TEXT, prompt_tokens INTEGER,
    tokens INTEGER NOT NULL, answers TEXT NOT NULL, prompts TEXT
)"""
INSERT = "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


@final
class RunLog:
    """File with the requests of a server.

    Args:
        path: SQLite file; rows are added to one that is there.
        model: Name of the served model.

    Raises:
        OutputError: The file cannot be written.
    """

    def __init__(self, path: Path, *, model: str) -> None:
        self._model = model
        self._queue: Queue[Record | None] = Queue(QUEUED)
        try:
            self._file = sqlite3.connect(path, check_same_thread=False)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute(TABLE)
            self._file.commit()
        except sqlite3.Error as error:
            raise OutputError(f"the log of runs {str(path)!r} cannot be written: {error}", fix="name another") from None
        self._thread = Thread(target=self._write, name="trimtab-run-log", daemon=True)
        self._thread.start()

    def add(self, record: Record) -> None:
        """Add a request once the disk has time."""
        try:
            self._queue.put_nowait(record)
        except Full:
            logger.warning("the disk is too slow for the log of runs: a request is left out")

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._queue.put(None)
        self._thread.join()

    def _write(self) -> None:
        while (record := self._queue.get()) is not None:
            rows = [self._row(record)]
            ending = False
            while not self._queue.empty() and len(rows) < BATCH:
                following = self._queue.get()
                if following is None:
                    ending = True
                    break
                rows.append(self._row(following))
            try:
                with self._file:
                    self._file.executemany(INSERT, rows)
            except sqlite3.Error as error:
                logger.warning("%d requests are not in the log of runs: %s", len(rows), error)
            if ending:
                break
        self._file.close()

    def _row(self, record: Record) -> tuple[object, ...]:
        return (
            record.id,
            record.came,
            record.client,
            record.path,
            self._model,
            record.status,
            record.seconds,
            record.first_token,
            record.steering,
            record.prompt_tokens,
            record.tokens,
            json.dumps(record.answers_json()),
            None if record.prompts is None else json.dumps(record.prompts),
        )
