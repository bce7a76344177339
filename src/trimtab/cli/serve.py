"""``trimtab serve``: an OpenAI-compatible server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.cli.options import DtypeOption, ModelOption, ThinkingOption, err, notice, phase_progress
from trimtab.errors import MissingDependencyError, OutputError

if TYPE_CHECKING:
    from trimtab.engines.generation import Serves
    from trimtab.server.settings import ServerSettings


def serve(
    model: ModelOption = None,
    vectors: Annotated[
        Path | None, typer.Option(help="Folder of the vectors that requests may name; default: the vectors folder.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 8421,
    name: Annotated[str | None, typer.Option(help="Name under which the model is served.")] = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
) -> None:
    """Serve a model to clients of OpenAI's API; every request may bring its own steering."""
    _check_installed()
    if vectors is not None and not vectors.is_dir():
        raise OutputError(f"there is no folder {str(vectors)!r}", fix="make it, or name another one with --vectors")
    from trimtab.server.settings import ServerSettings, served_name

    with phase_progress() as phases:
        phases.begin("Loading the model")
        from trimtab.engines.transformers import load

        engine = load(model, dtype=dtype, thinking=thinking)
        phases.begin("Answering once")  # which tries how the model can be run
        engine.submit("Hello", max_new_tokens=2, raw=not engine.has_chat_template).result()
    served = name or served_name(engine.info.name)
    settings = ServerSettings(model=served, host=host, port=port, vectors=vectors)
    run_server(engine, settings)


def run_server(engine: Serves, settings: ServerSettings) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    from socket import socket

    import uvicorn

    from trimtab.server.app import create_app

    app = create_app(engine, settings)
    address = f"http://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{settings.port}"
    count = len(app.state.serving.vectors.vectors)

    class Announced(uvicorn.Server):
        async def startup(self, sockets: list[socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                _announce(settings.model, address, count)

    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain),
    )
    try:
        Announced(config).run()
    except KeyboardInterrupt:
        err.print("Stopped.")


def _announce(model: str, address: str, vectors: int) -> None:
    notice(f"Serving {model} at {address}/v1 with {vectors} vectors. Ctrl-C stops it. Try:")
    messages = '[{"role": "user", "content": "How was your day?"}]'
    body = f'{{"model": "{model}", "messages": {messages}, "steering": "happy:0.5"}}'
    err.print(
        f"  curl {address}/v1/chat/completions -H 'content-type: application/json' -d '{body}'",
        markup=False,
        soft_wrap=True,
    )


def _check_installed() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("fastapi", "uvicorn", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(f"a server needs {', '.join(missing)}", fix="run: pip install 'trimtab[server]'")
