"""Every command and every piece of code in the README and in docs/ runs."""

from __future__ import annotations

import inspect
import io
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

import trimtab
from evaluation.sample_distilled import REPORT
from evaluation.sample_report import working
from served import listening
from trimtab import Behaviour
from trimtab.behaviours import neutral_prompts
from trimtab.cli import main
from trimtab.engines.transformers import TransformersEngine
from trimtab.evaluation.metrics.refusals import refusal_requests
from trimtab.server.app import create_app
from trimtab.server.presets import PresetFields
from trimtab.vectors import BehaviourRef, vectors_folder

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"]
FENCE = re.compile(r"^```(\w*)$", re.MULTILINE)
ELSEWHERE = ("clients.md",)  # whose blocks tests/interop/test_clients.py runs, in another environment
WITH_BLOCKS = [page for page in PAGES if page.name not in ELSEWHERE and FENCE.search(page.read_text(encoding="utf-8"))]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"])
LONG = ("evaluate", "distill")  # verbs that take minutes
TOKENS = 8
TEXTS = {
    "harmful": refusal_requests().harmful,
    "harmless": refusal_requests().harmless,
    "everyday": neutral_prompts().more[:50],
    "messages": neutral_prompts().calibration[:16],
    "pirate": ("You are a pirate. Speak like one.",),
}


def evaluate_bash(example) -> None:
    """Run each ``trimtab`` line in this process; check ``make``, ``pip`` and ``source`` lines without running them."""
    for line in example.parsed.splitlines():
        command = line.split("  #")[0].strip()
        if command:
            run_line(command)


def run_line(command: str) -> None:
    program, *arguments = shlex.split(command)
    if program == "make":
        assert arguments, command
        assert all(re.search(rf"^{target}:", MAKEFILE, re.MULTILINE) for target in arguments), command
    elif program == "pip":
        assert arguments[0] == "install", command
        assert set(re.findall(r"trimtab\[([\w-]+)\]", command)) <= EXTRAS, command
        assert all(argument in MAKEFILE for argument in arguments if "==" in argument), command
    elif program == "source":
        (script,) = arguments
        assert script == ".venv/bin/activate", command
        assert "VENV ?= .venv\n" in MAKEFILE, command
    elif program == "curl":
        done = subprocess.run([program, "--fail-with-body", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stdout)
    else:
        assert program == "trimtab", command
        run_trimtab(command, arguments)


def run_trimtab(command: str, arguments: list[str]) -> None:
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO("Hello\n"))
        patch.setattr(sys, "stdout", out)
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
    assert exit_.value.code == 0, command
    assert out.getvalue().strip() or arguments[0] in ("serve", "play"), command


def evaluate_json(example) -> None:
    """Read it."""
    json.loads(example.parsed)


def evaluate_toml(example) -> None:
    """Check a preset; write a behaviour to the file that has its name, and load it."""
    given = tomllib.loads(example.parsed)
    if given.keys() & {"steering", "flow"}:
        assert PresetFields.model_validate(given)
        return
    path = Path(f"{given['name']}.toml")
    path.write_text(example.parsed, encoding="utf-8")
    assert Behaviour.load(path).positive.personas


DOCUMENTS = Sybil(
    [
        PythonCodeBlockParser(),
        CodeBlockParser(language="bash", evaluator=evaluate_bash),
        CodeBlockParser(language="json", evaluator=evaluate_json),
        CodeBlockParser(language="toml", evaluator=evaluate_toml),
    ]
)


def ready(function: Callable[..., Any], result: Callable[..., Any]) -> Callable[..., Any]:
    """Stand-in for a function that takes long: take the same arguments, and return ``result(*positional)`` at once."""

    def stand_in(*args: Any, **options: Any) -> Any:
        inspect.signature(function).bind(*args, **options)
        return result(*args)

    return stand_in


def replace_by_ready(monkeypatch, module: str, name: str, result: Callable[..., Any]) -> None:
    """Replace a function in its module, for the command line, and among trimtab's public names."""
    stand_in = ready(getattr(import_module(module), name), result)
    monkeypatch.setattr(f"{module}.{name}", stand_in)
    monkeypatch.setitem(vars(trimtab), name, stand_in)


@pytest.fixture(scope="module")
def harmful(smollm2):
    """A reader fitted as on the pages."""
    return trimtab.fit_reader(smollm2, *(TEXTS[name] for name in ("harmful", "harmless")), name="harmful")


@pytest.fixture
def workplace(tmp_path, monkeypatch, smollm2, happy, harmful):
    """A folder with the files that the pages name, the model already loaded, and training that is already done."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for vector in (
        *(vectors_folder() / f"{name}.safetensors" for name in ("happy", "pirate")),
        "happy.safetensors",
        "pirate.safetensors",
    ):
        happy.save(vector)
    for name, lines in TEXTS.items():
        Path(f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setattr("trimtab.engines.transformers.load", lambda name=None, **_: smollm2)
    monkeypatch.setitem(vars(trimtab), "load", lambda name=None: smollm2)

    def train(_, behaviour):
        trained = harmful if behaviour.pairs else happy
        return replace(trained, behaviour=BehaviourRef(behaviour.name, behaviour.digest))

    replace_by_ready(monkeypatch, "trimtab.training.train", "train", train)


@pytest.fixture
def short(monkeypatch, happy, harmful):
    """Answers of a few tokens; long work is ready before it begins."""
    for name in ("generate", "stream"):
        original = getattr(TransformersEngine, name)

        def brief(self, *args, original=original, max_new_tokens=TOKENS, **options):
            return original(self, *args, max_new_tokens=min(max_new_tokens, TOKENS), **options)

        monkeypatch.setattr(TransformersEngine, name, brief)
    replace_by_ready(monkeypatch, "trimtab.training.readers", "fit_reader", lambda *_: harmful)
    replace_by_ready(monkeypatch, "trimtab.training.distillation.distill", "distill", lambda *_: happy)
    replace_by_ready(monkeypatch, "trimtab.evaluation.evaluate", "evaluate", lambda *_: working())
    monkeypatch.setattr("trimtab.evaluation.distilled.evaluate_distilled", lambda *_, **__: REPORT)


@pytest.fixture
def background(monkeypatch):
    """``trimtab serve`` and ``trimtab play`` return at once, and serve until the page's end."""
    with ExitStack() as servers:

        def run(engine, settings, *, keys=(), ready=None):
            servers.enter_context(listening(create_app(engine, settings, keys=keys), port=settings.port))

        for verb in ("serve", "play"):
            monkeypatch.setattr(f"trimtab.cli.{verb}.run_server", run)
        yield


def keep_harnesses_offline(monkeypatch) -> None:
    """Skip without lm-eval and Inspect; else give lm-eval three questions instead of the task that it downloads."""
    lm_eval, _ = (
        pytest.importorskip(name, reason="make test-interop installs it") for name in ("lm_eval", "inspect_ai")
    )
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks import TaskManager

    questions = [{"question": f"{n} and {n} make", "choices": [f"{2 * n}", "a bicycle"], "answer": 0} for n in range(3)]
    task = ConfigurableTask(
        config={
            "task": "arc_easy",
            "custom_dataset": lambda **_: {"test": Dataset.from_list(questions)},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}",
            "doc_to_choice": "choices",
            "doc_to_target": "answer",
        }
    )
    evaluate = lm_eval.simple_evaluate

    def evaluate_offline(*, tasks, **options):
        assert tasks == ["arc_easy"]
        return evaluate(tasks=[task], task_manager=TaskManager(include_defaults=False), **options)

    for name in ("INSPECT_LOG_DIR", "INSPECT_TRACE_FILE", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, name.lower())
    monkeypatch.setattr(lm_eval, "simple_evaluate", evaluate_offline)
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # takes half a minute


def readme_commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("trimtab ")]


def test_readme_shows_every_verb():
    verbs = {command.split()[1] for command in readme_commands()}
    assert verbs >= {"train", "generate", "compare", "chat", "read", "evaluate", "new", "show", "zoo", "doctor"}


@pytest.mark.filterwarnings(
    "ignore::trimtab.errors.StrongSteeringWarning",  # the guard is strong on purpose
    "ignore:The 'initial' parameter is deprecated:DeprecationWarning",  # Inspect's own, with a newer tenacity
    "ignore:.*MemoryObject(Receive|Send)Stream:pytest.PytestUnraisableExceptionWarning",  # Inspect's own
)
@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.name)
def test_page_blocks_run(page, workplace, short, background, monkeypatch):
    if page.name == "interop.md":
        keep_harnesses_offline(monkeypatch)
    document = DOCUMENTS.parse(page)
    examples = list(document.examples())
    assert len(examples) == len(FENCE.findall(page.read_text(encoding="utf-8"))) / 2
    for example in examples:
        example.evaluate()
    assert all(log.status == "success" for log in document.namespace.get("logs", ()))  # Inspect catches errors


@pytest.mark.slow
@pytest.mark.parametrize("command", [line for line in readme_commands() if line.split()[1] in LONG])
def test_readme_long_commands_run(command, workplace):
    run_line(command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", text):
        assert not target or (page.parent / target).exists(), target
