"""``trimtab serve``: an OpenAI-compatible server."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.cli.options import DtypeOption, ModelOption, ThinkingOption, err, notice, out, phase_progress
from trimtab.errors import MissingDependencyError, OutputError, PromptError

if TYPE_CHECKING:
    from trimtab.engines.generation import Serves
    from trimtab.engines.transformers import TransformersEngine
    from trimtab.server.keys import Key
    from trimtab.server.settings import ServerSettings


def serve(
    model: ModelOption = None,
    vectors: Annotated[
        Path | None, typer.Option(help="Folder of the vectors that requests may name; default: the vectors folder.")
    ] = None,
    presets: Annotated[
        Path | None, typer.Option(help="Folder of presets and flows; default: the presets folder.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 8421,
    name: Annotated[str | None, typer.Option(help="Name under which the model is served.")] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="TOML file of the keys that clients need; anyone may ask without it.")
    ] = None,
    new_key: Annotated[bool, typer.Option("--new-key", help="Print a new key and its entry for the file.")] = False,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Let anyone ask, also under other addresses.")] = False,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="Further host name under which the server may be asked.")
    ] = None,
    allowed_origin: Annotated[list[str] | None, typer.Option(help="Web page that may ask: https://….")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Of each key.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, help="Of each key.")] = None,
    open_metrics: Annotated[bool, typer.Option("--open-metrics", help="Tell metrics without a key.")] = False,
    log_requests: Annotated[bool, typer.Option("--log-requests", help="Log each request as JSON.")] = False,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Log prompts and answers, too.")] = False,
    run_log: Annotated[Path | None, typer.Option(help="SQLite file to add a row to for each request.")] = None,
    drain: Annotated[float, typer.Option(min=0, help="Seconds for answers to end once it is stopped.")] = 30.0,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
) -> None:
    """Serve a model to clients of OpenAI's API; every request may bring its own steering."""
    check_installed()
    from trimtab.server.keys import ENVIRONMENT, environment_key, read_keys
    from trimtab.server.keys import new_key as make_key

    if new_key:
        key, digest = make_key()
        out.print(key, markup=False)
        err.print(
            f'Give the client this key, and add to the file of keys:\n\n[[keys]]\nname = "…"\nsha256 = "{digest}"',
            markup=False,
            soft_wrap=True,
        )
        return
    keys = () if api_key_file is None else read_keys(api_key_file)
    if secret := os.environ.get(ENVIRONMENT):
        keys = (*keys, environment_key(secret))
    if host not in ("127.0.0.1", "::1", "localhost") and not keys and not no_auth:
        raise PromptError(
            f"anyone who reaches {host} could use the server",
            fix="give --api-key-file with keys (--new-key makes one), or --no-auth if that is meant",
        )
    for option, folder in (("--vectors", vectors), ("--presets", presets)):
        if folder is not None and not folder.is_dir():
            raise OutputError(f"there is no folder {str(folder)!r}", fix=f"make it, or name another one with {option}")
    from trimtab.server.settings import ServerSettings, served_name

    engine = load_engine(model, dtype=dtype, thinking=thinking)
    settings = ServerSettings(
        model=name or served_name(engine.info.name),
        host=host,
        port=port,
        vectors=vectors,
        presets=presets,
        allowed_hosts=tuple(allowed_host or ()),
        allowed_origins=tuple(allowed_origin or ()),
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        open_metrics=open_metrics,
        log_requests=log_requests or log_prompts,
        log_prompts=log_prompts,
        run_log=run_log,
        drain=drain,
    )
    run_server(engine, settings, keys=keys)


def load_engine(model: str | None, *, dtype: str | None, thinking: bool | None) -> TransformersEngine:
    """Load a model, and have it answer once, which tries how it can be run."""
    with phase_progress() as phases:
        phases.begin("Loading the model")
        from trimtab.engines.transformers import load

        engine = load(model, dtype=dtype, thinking=thinking)
        phases.begin("Answering once")
        engine.submit("Hello", max_new_tokens=2, raw=not engine.has_chat_template).result()
    return engine


def run_server(
    engine: Serves,
    settings: ServerSettings,
    *,
    keys: Sequence[Key] = (),
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        engine: The engine that answers.
        settings: The server's settings.
        keys: Keys of clients; anyone may ask without any.
        ready: Called with the server's address once it listens; prints a request to try by default.
    """
    import logging

    from trimtab.server.app import create_app
    from trimtab.server.listening import listen

    if settings.log_requests:
        requests = logging.getLogger("trimtab.server.requests")
        requests.setLevel(logging.INFO)
        requests.addHandler(logging.StreamHandler())
    app = create_app(engine, settings, keys=keys)
    address = f"http://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{settings.port}"
    count = len(app.state.serving.vectors.vectors)

    def announce() -> None:
        notice(f"Serving {settings.model} at {address}/v1 with {count} vectors. Ctrl-C stops it.")
        if ready is None:
            _show_request(settings.model, address)
        else:
            ready(address)

    try:
        listen(app, ready=announce).run()
    except KeyboardInterrupt:
        err.print("Stopped.")
    finally:
        if app.state.serving.run_log is not None:
            app.state.serving.run_log.close()


def _show_request(model: str, address: str) -> None:
    notice(f"Open {address} in a browser, or try:")
    messages = '[{"role": "user", "content": "How was your day?"}]'
    body = f'{{"model": "{model}", "messages": {messages}, "steering": "happy:0.5"}}'
    err.print(
        f"  curl {address}/v1/chat/completions -H 'content-type: application/json' -d '{body}'",
        markup=False,
        soft_wrap=True,
    )


def check_installed() -> None:
    """Check that the libraries of the server are installed.

    Raises:
        MissingDependencyError: They are not.
    """
    from importlib.util import find_spec

    missing = [name for name in ("fastapi", "uvicorn", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(f"a server needs {', '.join(missing)}", fix="run: pip install 'trimtab[server]'")
