"""The application: its verbs, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from trimtab.cli import (
    calibrate,
    chat,
    compare,
    condition,
    demo,
    distill,
    doctor,
    evaluate,
    generate,
    lint,
    new,
    read,
    show,
    train,
    zoo,
)
from trimtab.errors import StrongSteeringWarning, TrimtabError

INTERRUPTED = 130

app = typer.Typer(
    name="trimtab",
    help="Steer a language model by its hidden states: describe a behaviour, learn its direction, dial it.",
    epilog="Start with: trimtab demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        import trimtab

        typer.echo(f"trimtab {trimtab.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for _verb in (demo, new, lint, train, distill, calibrate, generate, compare, chat, read, evaluate, show, doctor):
    app.command(name=_verb.NAME, epilog=f"Example: {_verb.EXAMPLE}")(_verb.run)
app.add_typer(zoo.app, name=zoo.NAME)
app.add_typer(condition.app, name=condition.NAME)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; user mistakes end with one line on standard error and exit code 2."""
    run_app(app, arguments)


def run_app(application: typer.Typer, arguments: Sequence[str] | None = None) -> None:
    """Run an application and exit; every error becomes one line on standard error and an exit code."""
    try:
        with _plain_warnings():
            code = application(args=arguments, standalone_mode=False)
        if code == INTERRUPTED:  # typer's own way of taking Ctrl-C
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except TrimtabError as error:
        _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail("stopped; no file was left half-written", INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        # Usage errors of the parser know how to say themselves; anything else is a bug and keeps its traceback.
        if not hasattr(error, "format_message"):
            raise
        _fail(error.format_message(), getattr(error, "exit_code", 2))


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Inside, warnings of our own are a line of text like errors are."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_plainly(message: Warning | str, category: type[Warning], *rest: Any) -> None:
            if issubclass(category, StrongSteeringWarning):
                print(f"trimtab: warning: {message}", file=sys.stderr)
            else:
                show(message, category, *rest)

        warnings.showwarning = show_plainly  # type: ignore[assignment]
        warnings.simplefilter("always", StrongSteeringWarning)
        yield


def _fail(message: str, code: int) -> None:
    print(f"trimtab: {message}", file=sys.stderr)
    sys.exit(code)
