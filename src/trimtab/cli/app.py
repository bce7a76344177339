"""Command-line application: its verbs, and the handler that turns errors into a line and an exit code."""

from __future__ import annotations

import codecs
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer

from trimtab.cli import condition, zoo
from trimtab.cli.behaviour import lint, new
from trimtab.cli.choose import choose
from trimtab.cli.demo import demo
from trimtab.cli.distill import distill
from trimtab.cli.doctor import doctor
from trimtab.cli.evaluate import evaluate
from trimtab.cli.generate import chat, compare, generate
from trimtab.cli.options import OnceCommand
from trimtab.cli.play import play
from trimtab.cli.read import read
from trimtab.cli.serve import serve
from trimtab.cli.vector import calibrate, show, train
from trimtab.defaults import set_thread_defaults
from trimtab.errors import StrongSteeringWarning, TrimtabError

INTERRUPTED = 130  # exit code after Ctrl-C
PLAIN = "trimtab.plain"  # error handler of streams that cannot encode everything
LONGER = ["...", "+/-", ">=", "<=", "->", "||", "\\n"]
SUBSTITUTES = dict(zip("−–—‐‑─│┃║█▓▒░━‘’“”×•·…±≥≤→‖⏎", [*"------|||#####''\"\"x*.", *LONGER], strict=True))
VERBS: tuple[tuple[Callable[..., None], str], ...] = (  # each with an example
    (demo, "trimtab demo"),
    (play, "trimtab play"),
    (new, 'trimtab new pirate --positive "a pirate" --negative "a lawyer"'),
    (lint, "trimtab lint pirate.toml"),
    (train, "trimtab train happy -o happy.safetensors"),
    (distill, 'trimtab distill --system-prompt "You are a pirate. Speak like one." -o pirate.safetensors'),
    (calibrate, "trimtab calibrate happy --operator rotate"),
    (generate, "trimtab generate 'How was your day?' --steer happy"),
    (compare, "trimtab compare 'How was your day?' --steer happy"),
    (chat, "trimtab chat --steer happy"),
    (choose, "trimtab choose 'Is the sky green?' yes no"),
    (read, "trimtab read 'What a lovely day!' --vector happy"),
    (serve, "trimtab serve --port 8421"),
    (evaluate, "trimtab evaluate happy --report happy.html"),
    (show, "trimtab show happy.safetensors"),
    (doctor, "trimtab doctor --model smollm2"),
)

app = typer.Typer(
    name="trimtab",
    help="Steer a language model by its hidden states: describe a behaviour, train its vector, set its strength.",
    epilog="Start with: trimtab demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(requested: bool) -> None:
    if requested:
        import trimtab

        typer.echo(f"trimtab {trimtab.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Version of trimtab.")
    ] = False,
) -> None:
    pass


for _verb, _example in VERBS:
    app.command(name=_verb.__name__, epilog=f"Example: {_example}", cls=OnceCommand)(_verb)
app.add_typer(zoo.app, name="zoo")
app.add_typer(condition.app, name="condition")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; user mistakes end with one line on standard error and exit code 2."""
    run_app(app, arguments)


def run_app(application: typer.Typer, arguments: Sequence[str] | None = None) -> None:
    """Run an application and exit; every error becomes one line on standard error and an exit code."""
    _write_whatever_encoding()
    set_thread_defaults()
    try:
        with _plain_warnings():
            code = application(args=arguments, standalone_mode=False)
        sys.stdout.flush()  # a full disk is noticed here, not while Python shuts down
        if code == INTERRUPTED:  # how typer reports Ctrl-C
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except TrimtabError as error:
        _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail("stopped; no file was left half-written", INTERRUPTED)
    except BrokenPipeError:
        _discard_output()
        sys.exit(0)
    except OSError as error:
        _discard_output()
        where = f" {os.fsdecode(error.filename)!r}" if isinstance(error.filename, (str, bytes)) else " the output"
        _fail(f"cannot read or write{where}: {error.strerror or error}", 1)
    except Exception as error:
        # Usage errors of the parser have a message for the user; anything else is a bug and keeps its traceback.
        if not hasattr(error, "format_message"):
            raise
        _fail(error.format_message(), getattr(error, "exit_code", 2))


def _write_whatever_encoding() -> None:
    """Write what the encoding of a stream lacks (cp1252, lone surrogates) in plain characters; read any bytes."""

    def substitute(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        return "".join(SUBSTITUTES.get(c, "?") for c in error.object[error.start : error.end]), error.end

    codecs.register_error(PLAIN, substitute)
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, PLAIN), (sys.stderr, PLAIN)):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _discard_output() -> None:
    """Send what is still buffered nowhere, or Python complains about it while it shuts down."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print warnings of trimtab as one line, like errors, during the ``with`` block."""
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
