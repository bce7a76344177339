"""``trimtab read``: on the default model, in this process."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from trimtab.cli import options
from trimtab.cli import read as read_verb
from trimtab.engines.transformers.text.turns import marked_prompt, token_texts
from trimtab.reading import make_reading
from trimtab.vectors import Neutral, Spread, vectors_folder

TEXT = "What a <lovely> [bold]day[/bold]!"


def plain_read(engine, prompt, vectors, *, raw=False):
    """Return the expected reading, from the marked prompt and its hidden states."""
    marked = marked_prompt(engine.tokenizer, prompt, raw=raw, encode=engine.encode)
    (states,) = engine.hidden_states([marked.tokens], position="all")
    return make_reading(
        vectors,
        states,
        text=marked.text,
        tokens=marked.tokens,
        pieces=token_texts(engine.tokenizer, marked),
        words=marked.words,
    )


@pytest.fixture
def run(run_on, smollm2):
    """Run ``trimtab ARGUMENTS``; gives (code, stdout, stderr)."""
    return run_on(smollm2)


@pytest.fixture(autouse=True)
def happy(random_vector, smollm2):
    """Save random vectors: happy with neutral statistics, formal without."""
    spread = Spread({14: 0.0, 15: 0.0}, {14: 5.0, 15: 5.0})
    neutral = Neutral(spread, spread, spread, {}, prompts=1, tokens=9)
    vector = replace(random_vector(smollm2, layers=[14, 15], name="happy"), neutral=neutral)
    vector.save(vectors_folder() / "happy.safetensors")
    random_vector(smollm2, layers=[3], seed=1, name="formal").save(vectors_folder() / "formal.safetensors")
    return vector


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("read", "hi", "-v", "nobody"), "no vector named 'nobody'"),
        (("read", " ", "-v", "happy"), "the text is empty"),
        (("read", "hi", "-v", "happy", "--assistant", " "), "the assistant's text is empty"),
        (("read", "hi", "-v", "happy", "--raw", "--system", "x"), "--system and --raw exclude each other"),
        (("read", "hi", "-v", "happy", "--raw", "--assistant", "x"), "--assistant and --raw exclude each other"),
        (("read", "hi", "-v", "happy", "-o", "out.pdf"), "'out.pdf' does not end with .html"),
        (("read", "hi"), "Missing option '--vector'"),
    ],
)
def test_read_mistake_is_one_line_and_code_2(run, arguments, says):
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    last = err.strip().splitlines()[-1]
    assert last.startswith("trimtab: ")
    assert says in last


def test_read_without_colours_prints_token_table(run):
    code, out, _ = run("read", TEXT, "-v", "happy", "-v", "formal")
    assert code == 0
    assert re.search(r"^happy  [+-]\d+\.\d\d  .*\(z; mean over \d+ words, layers 14-15\)$", out, re.MULTILINE)
    assert re.search(r"^formal  no score: the vector has no neutral statistics", out, re.MULTILINE)
    assert re.search(r"^ *[+-]\d\.\d\d +[+-]\d\.\d\d +What *$", out, re.MULTILINE)
    assert "<|im_start|>" not in out  # it does not count
    assert "\x1b" not in out


@pytest.mark.parametrize("colours", ["truecolor", "256", "standard"])
def test_read_with_colours_prints_text_unchanged(run, monkeypatch, colours):
    written = io.StringIO()
    terminal = Console(file=written, force_terminal=True, color_system=colours, width=200, highlight=False)
    monkeypatch.setattr(read_verb, "out", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert run("read", TEXT, "-v", "happy")[0] == 0
    assert "\x1b[" in written.getvalue()
    shown = re.sub(r"\x1b\[[\d;]*m", "", written.getvalue())
    assert TEXT in shown
    assert "<|im_start|>user" in shown
    assert "dim: does not count" in shown


def test_read_json_is_only_the_reading(run, smollm2, happy):
    code, out, _ = run("read", TEXT, "-v", "happy", "--json", "--layers")
    assert code == 0
    written = json.loads(out)
    expected = plain_read(smollm2, TEXT, [happy])
    assert written["vectors"][0]["score"] == pytest.approx(expected.score, rel=1e-4)
    np.testing.assert_allclose(written["vectors"][0]["z"], expected.z, rtol=1e-3, atol=1e-4)
    assert "".join(written["pieces"]) == written["text"] == smollm2.render(TEXT)


def test_read_dash_and_raw_read_plain_input(run):
    code, out, _ = run("read", "-", "-v", "happy", "--raw", "--json", stdin="Bare words")
    assert code == 0
    assert json.loads(out)["text"] == "Bare words"


def test_read_assistant_is_assistant_message(run, smollm2):
    code, out, _ = run("read", "Hi", "-v", "happy", "--assistant", "So glad!", "--system", "Be kind.", "--json")
    assert code == 0
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    assert json.loads(out)["text"] == smollm2.render(chat, continuation="So glad!")


@pytest.mark.parametrize(("name", "starts"), [("day.html", b"<!DOCTYPE html>"), ("day.HTML", b"<!DOCTYPE html>")])
def test_read_output_writes_heatmap(run, tmp_path: Path, name, starts):
    path = tmp_path / "new" / name
    code, _, err = run("read", TEXT, "-v", "happy", "-v", "formal", "-o", str(path))
    assert code == 0
    assert path.read_bytes().startswith(starts)
    assert f"wrote {path}" in err.replace("\n", "")


def test_read_layers_prints_each_layer(run):
    _, out, _ = run("read", TEXT, "-v", "happy", "-v", "formal", "--json")
    happy, formal = json.loads(out)["vectors"]
    code, out, _ = run("read", TEXT, "-v", "happy", "-v", "formal", "--layers")
    assert code == 0
    assert re.search(r"^happy by layer\n *layer +z ", out, re.MULTILINE)
    assert re.search(rf"^ *15 +{re.escape(format(happy['layer_scores'][1], '+.2f'))} ", out, re.MULTILINE)
    words = np.array(json.loads(run("read", TEXT, "-v", "formal", "--json")[1])["words"])
    mean = np.array(formal["projections"])[0, words].mean()
    assert re.search(rf"^ *3 +{re.escape(format(mean, '+.2f'))} ", out, re.MULTILINE)


def test_read_vector_of_other_weights_needs_force(run, happy):
    other = replace(happy, model=replace(happy.model, fingerprint="other"))
    other.save(vectors_folder() / "other.safetensors")
    code, _, err = run("read", "Hi", "-v", "other")
    assert code == 2
    assert "whose weights differ" in err
    assert run("read", "Hi", "-v", "other", "--force")[0] == 0


@pytest.mark.parametrize(
    ("score", "says"),
    [(0.3, "as neutral"), (-0.7, "a little towards its −"), (1.5, "clearly towards its +"), (-9, "far towards its −")],
)
def test_meaning_describes_score(score, says):
    assert read_verb.meaning(score).startswith(says)


def test_read_shares_console():
    assert read_verb.out is options.out
