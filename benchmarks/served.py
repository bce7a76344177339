"""Servers in processes of their own, for benchmarks over HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from benchmarks.processes import worker_environment
from trimtab.errors import BenchmarkError

START_SECONDS = 120


@dataclass(frozen=True)
class Server:
    """A server that runs: its process and its address."""

    pid: int
    address: str


def trimtab_command(folder: Path, name: str) -> list[str]:
    """Return the command of a server of the model and the vectors in a folder; its port is still to be appended."""
    serve = [sys.executable, "-m", "trimtab", "serve", "-m", str(folder / "model"), "--name", name]
    return [*serve, "--vectors", str(folder / "vectors"), "--port"]


@contextmanager
def running_server(command: Sequence[str], folder: Path, threads: int) -> Iterator[Server]:
    """Run a server until the end of the ``with`` block; the command's last argument is its port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    log = folder / f"{port}.log"
    home = {"HOME": str(folder)}  # saklas keeps files there
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, str(port)], stdout=output, stderr=output, env=worker_environment(threads) | home
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(process, address, log)
        yield Server(process.pid, address)
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            httpx2.get(f"{address}/v1/models", timeout=5)
        except httpx2.TransportError:
            time.sleep(0.2)
        else:
            return
    lines = log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
    raise BenchmarkError(f"a server did not start: {lines[-1]}")
