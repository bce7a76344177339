"""``trimtab play``: the server on this machine, and its web page in the browser."""

from __future__ import annotations

import socket
from threading import Thread
from typing import Annotated

import typer

from trimtab.cli.options import DtypeOption, ModelOption, ThinkingOption, notice
from trimtab.cli.serve import check_installed, load_engine, run_server
from trimtab.errors import PromptError

DRAIN = 2.0  # seconds for answers to end after Ctrl-C: whoever plays is not kept waiting


def play(
    model: ModelOption = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Port of the page; default: 8421, or a free one.")
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
) -> None:
    """Open a page with dials in the browser: the same question answered plain, steered, and the other way."""
    check_installed()
    from trimtab.server.settings import HOST, PORT, ServerSettings, served_name

    taken = _is_taken(HOST, PORT if port is None else port)
    if taken and port is not None:
        raise PromptError(f"port {port} is taken", fix="leave out --port to have a free one")
    chosen = _free_port(HOST) if taken else port or PORT
    engine = load_engine(model, dtype=dtype, thinking=thinking)
    settings = ServerSettings(model=served_name(engine.info.name), host=HOST, port=chosen, drain=DRAIN)
    run_server(engine, settings, ready=_open if browser else _say)


def _is_taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: old connections do not count
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _say(address: str) -> None:
    notice(f"Open {address} in a browser.")


def _open(address: str) -> None:
    import webbrowser

    notice(f"Opening {address} in the browser.")
    Thread(target=webbrowser.open, args=(address,), daemon=True).start()  # a browser in the terminal does not return
