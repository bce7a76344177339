"""Test the command line in this process on the default model: its output and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import trimtab
from sample_vectors import calibration_record, safe_range, written_effect
from trimtab.cli import options
from trimtab.cli.options import parse_layers
from trimtab.engines import AnswerComparison, Completion, Receipt
from trimtab.engines.protocol import MarkedPrompt
from trimtab.errors import OutputError
from trimtab.vectors import vectors_folder


@pytest.fixture
def run(run_on, smollm2):
    """Run ``trimtab ARGUMENTS``; gives (code, stdout, stderr)."""
    return run_on(smollm2)


@pytest.fixture
def happy_file(random_vector, smollm2) -> Path:
    """Save a vector of random directions as 'happy' in the vectors folder."""
    return random_vector(smollm2, layers=[14, 15], name="happy").save(vectors_folder() / "happy.safetensors")


MISTAKES = [
    (("train", "hapy"), "did you mean 'happy'"),
    (("train", "happy", "--method", "magic"), "no method named 'magic'"),
    (("train", "happy", "--layers", "3-x"), "cannot read the layers"),
    (("train", "happy", "--layers", "99", "--no-calibrate"), "not all layers of this model"),
    (("train", "happy", "--budget", "0"), "makes no sense"),
    (("train", "happy", "--max-pairs", "1"), "ask for at least 2"),
    (("generate", "hi", "--steer", "nobody:1"), "no vector named 'nobody'"),
    (("generate", "hi", "--steer", "happy:"), "column 7"),
    (("generate", "hi", "--steer", "happy:nan"), "strength nan"),
    (("generate", " "), "the prompt is empty"),
    (("generate", "hi", "--temperature", "-1"), "temperature is -1.0"),
    (("generate", "hi", "--raw", "--system", "x"), "exclude each other"),
    (("generate", "hi", "--logit-bias", "x"), "cannot read --logit-bias 'x'"),
    (("generate", "hi", "--logit-bias", "999999=1"), "has token 999999"),
    (("generate", "hi", "--stop", ""), "cannot stop an answer"),
    (("generate", "hi", "--logprobs", "21"), "logprobs is 21"),
    (("chat", "--top-k", "-1"), "top_k is -1"),
    (("generate", "word " * 9000), "reads 8192"),
    (("show", "nothing.safetensors"), "does not exist"),
    (("dance",), "No such command"),
    (("generate",), "Missing argument"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES)
def test_main_user_mistake_is_one_line_and_code_2(run, happy_file, arguments, says):
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    last = err.strip().splitlines()[-1]
    assert last.startswith("trimtab: ")
    assert says in last
    assert "Traceback" not in err


def test_generate_json_has_text_and_receipt(run, happy_file):
    code, out, _ = run("generate", "How was your day?", "--steer", f"{happy_file}:0.8", "-n", "6", "--kl", "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer["text"]
    assert answer["receipt"]["layers"] == [14, 15]
    assert answer["receipt"]["steering"].endswith("happy.safetensors:0.8")
    assert answer["receipt"]["tokens"] == answer["prompt_tokens"] + answer["completion_tokens"] - 2  # no sink, no last
    assert answer["receipt"]["kl"] > 0


def test_generate_stream_equals_json_text(run, happy_file):
    _, streamed, _ = run("generate", "Tell me a story.", "--steer", "happy:1", "-n", "12")
    _, out, _ = run("generate", "Tell me a story.", "--steer", "happy:1", "-n", "12", "--json")
    assert streamed.strip() == json.loads(out)["text"].strip()


def test_generate_sampling_options_reach_engine(run, smollm2):
    given = ("--temperature", "1.2", "--top-k", "20", "--min-p", "0.01", "--seed", "3", "--repetition-penalty", "1.1")
    more = ("--presence-penalty", "0.5", "--frequency-penalty", "-0.2", "--logit-bias", "30=-100", "--min-tokens", "3")
    stops = ("--stop", "the", "--stop", "a b", "--stop-token", "28", "--ignore-eos", "--logprobs", "1")
    _, out, _ = run("generate", "Name a sea.", "-n", "8", "--answers", "2", "--json", *given, *more, *stops)
    expected = smollm2.generate(
        "Name a sea.",
        n=2,
        max_new_tokens=8,
        temperature=1.2,
        top_k=20,
        min_p=0.01,
        seed=3,
        repetition_penalty=1.1,
        presence_penalty=0.5,
        frequency_penalty=-0.2,
        logit_bias={30: -100},
        min_tokens=3,
        stop=["the", "a b"],
        stop_token_ids=[28],
        ignore_eos=True,
        logprobs=1,
    )
    assert json.loads(out) == json.loads(json.dumps([completion.to_json() for completion in expected]))


def test_generate_stop_and_logprobs_are_shown(run):
    code, out, err = run("generate", "Count to ten.", "-n", "12", "--stop", ",", "--logprobs", "2")
    assert code == 0
    assert "," not in out
    lines = [line for line in err.splitlines() if " of '" in line]
    assert lines
    assert all(float(line.split()[0]) <= 0 for line in lines)


def test_chat_sampling_options_reach_engine(run):
    plain, stopped = (
        json.loads(run("chat", "--json", "-n", "12", *options, stdin="Hello\n")[1]) for options in ((), ("--stop", "e"))
    )
    assert stopped["text"] == plain["text"].split("e")[0]
    assert stopped["stopped_by"] == "e"


def test_generate_without_chat_template_prints_notice(run, tiny, monkeypatch):
    monkeypatch.setattr("trimtab.engines.transformers.load", lambda *_, **__: tiny("llama", chat_template=None))
    notice = "tiny llama has no chat template"
    assert notice in run("generate", "Hi", "-n", "2")[2]
    assert notice not in run("generate", "Hi", "-n", "2", "--raw")[2]
    assert notice not in run("generate", "Hi", "-n", "2", "--json")[2]
    assert notice in run("chat", "-n", "2", stdin="Hi\n")[2]


@pytest.mark.parametrize(
    "verb", [("generate", "Hi"), ("compare", "Hi", "-s", "happy:1"), ("chat",), ("demo",), ("train", "happy")]
)
def test_verbs_with_model_take_dtype(run, happy_file, monkeypatch, verb):
    given = {}

    def load(name, **options):
        given.update(options, name=name)
        raise OutputError("far enough")

    monkeypatch.setattr("trimtab.engines.transformers.load", load)
    assert run(*verb, "--model", "some-model", "--dtype", "bfloat16")[0] == 2
    assert given == {"name": "some-model", "dtype": "bfloat16", "thinking": None}


@pytest.mark.parametrize(
    "verb", [("generate", "Hi"), ("compare", "Hi", "-s", "happy:1"), ("chat",), ("train", "happy")]
)
def test_thinking_option_switches_reasoning(run, happy_file, monkeypatch, verb):
    told = []

    def load(name, *, thinking, **options):
        told.append(thinking)
        raise OutputError("far enough")

    monkeypatch.setattr("trimtab.engines.transformers.load", load)
    for option in ("--thinking", "--no-thinking"):
        assert run(*verb, option)[0] == 2
    assert told == [True, False]


def test_generate_several_prompts_and_dash(run):
    code, out, _ = run("generate", "Hello", "-", "-n", "4", "--json", stdin="What is rain?")
    assert code == 0
    assert len(json.loads(out)) == 2


def test_compare_json_has_three_answers(run, happy_file):
    code, out, _ = run("compare", "Hello there", "--steer", "happy:1", "-n", "5", "--json")
    assert code == 0
    compared = json.loads(out)
    assert compared["baseline"]["receipt"]["layers"] == []
    assert compared["plus"]["receipt"]["steering"] == "happy:1"
    assert compared["minus"]["receipt"]["steering"] == "happy:-1"


def test_compare_table_has_three_columns(run, happy_file):
    code, out, _ = run("compare", "Hello there", "--steer", "happy:1", "-n", "5")
    assert code == 0
    assert "baseline" in out
    assert "> Hello there" in out


def test_chat_steer_command_error_keeps_history(run, happy_file):
    talk = "Hello\n/steer happy:0.5\nAnd you?\n/steer nobody:1\n/reset\n/help\nHi\n/quit\nnever read\n"
    code, out, err = run("chat", "--json", "-n", "4", stdin=talk)
    assert code == 0
    first, second, third = map(json.loads, out.splitlines())
    assert first["receipt"]["steering"] == "none"
    assert second["receipt"]["steering"] == third["receipt"]["steering"] == "happy:0.5"
    assert second["prompt_tokens"] > first["prompt_tokens"]
    assert third["prompt_tokens"] <= first["prompt_tokens"]
    assert "no vector named 'nobody'" in err


def test_show_prints_card_and_json(run, happy_file):
    code, card, _ = run("show", str(happy_file))
    assert code == 0
    assert "layers 14–15" in card
    _, out, _ = run("show", "happy", "--json")
    shown = json.loads(out)
    assert [layer for layer, weight in shown["weights"].items() if weight] == ["14", "15"]
    assert shown["model"]["hidden_size"] == 576


def test_zoo_json_lists_behaviours_and_vectors(run, happy_file):
    _, out, _ = run("zoo", "--json")
    listed = {entry["name"]: entry for entry in json.loads(out)}
    assert listed["happy"]["vector"] == str(happy_file)
    assert listed["formal"]["vector"] is None
    _, table, _ = run("zoo")
    assert "formal" in table


def test_train_show_pairs_prints_without_training(run, tmp_path):
    code, out, _ = run("train", "happy", "--show-pairs", "3", "--json", "-o", str(tmp_path / "v.safetensors"))
    assert code == 0
    pairs = json.loads(out)["pairs"]
    assert len(pairs) == 3
    assert all("<|im_start|>assistant\n" in pair["positive"] for pair in pairs)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_train_uncalibrated_writes_vector_and_json(run, tmp_path):
    path = tmp_path / "happy.safetensors"
    code, out, err = run("train", "happy", "--no-calibrate", "--max-pairs", "16", "-o", str(path), "--json")
    assert code == 0
    assert json.loads(out)["scale"] is None
    assert "Collecting hidden states" in err
    assert trimtab.ControlVector.load(path).scale is None
    code, _, err = run("generate", "hi", "--steer", f"{path}:1")
    assert code == 2
    assert "never calibrated" in err


def test_train_unwritable_output_fails_before_loading(run, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = run("train", "happy", "-o", str(tmp_path / "file" / "v.safetensors"))
    assert code == 2
    assert "cannot write" in err
    assert "Collecting" not in err


def test_save_or_rescue_failure_saves_elsewhere(random_vector, smollm2, tmp_path, monkeypatch):
    vector = random_vector(smollm2, layers=[3], name="kept")
    monkeypatch.setattr(options.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="was saved to"):
        options.save_or_rescue(vector, tmp_path / "file" / "v.safetensors")
    (rescued,) = tmp_path.glob("rescued-*.safetensors")
    assert trimtab.ControlVector.load(rescued).behaviour.name == "kept"


@pytest.mark.slow
def test_train_interrupt_is_code_130_and_resumes(run, tmp_path, monkeypatch, smollm2):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    path, kept = tmp_path / "v.safetensors", tmp_path / "cache" / "kept.sqlite"
    monkeypatch.setattr("trimtab.cli.vector.checkpoint_path", lambda output: kept)
    arguments = ("train", "happy", "--max-pairs", "8", "--layers", "15", "--no-check", "-o", str(path))
    with monkeypatch.context() as patch:
        patch.setattr(type(smollm2), "generate", interrupted)
        code, out, err = run(*arguments)
    assert code == 130
    assert out == ""
    assert "Traceback" not in err
    assert "--resume goes on" in err
    assert err.strip().splitlines()[-1] == "trimtab: stopped; no file was left half-written"
    assert list(tmp_path.iterdir()) == [kept.parent]

    with monkeypatch.context() as patch:  # states are not collected again; what comes after them is
        patch.setattr(type(smollm2), "collect", interrupted)
        patch.setattr("trimtab.training.train.calibrated", lambda bench, vector, *_, **__: vector)
        assert run(*arguments, "--resume")[0] == 0
    assert trimtab.ControlVector.load(path).reliability.pairs == 8
    assert not kept.exists()


@pytest.mark.slow
def test_train_resume_without_checkpoint_starts_over(run, tmp_path, monkeypatch):
    monkeypatch.setattr("trimtab.cli.vector.checkpoint_path", lambda output: tmp_path / "none.sqlite")
    path = tmp_path / "v.safetensors"
    code, out, err = run("train", "happy", "--max-pairs", "4", "--no-calibrate", "--resume", "--json", "-o", str(path))
    assert code == 0
    assert "nothing to resume" in err
    collection = json.loads(out)["collection"]
    assert collection["prompts"] == 8
    assert collection["distinct"] <= collection["tokens"]
    assert collection["path"] in ("tree", "plain")
    assert collection["reason"]


def test_help_shows_example():
    for verb in ("demo", "train", "generate", "compare", "chat", "show", "zoo", "doctor"):
        shown = subprocess.run(
            [sys.executable, "-m", "trimtab", verb, "--help"], capture_output=True, text=True, check=True
        )
        assert f"Example: trimtab {verb}" in shown.stdout


@pytest.fixture
def safe_file(random_vector, smollm2) -> Path:
    """Save a vector with a narrow safe range as 'calm' in the vectors folder."""
    vector = replace(random_vector(smollm2, layers=[14], name="calm"), safe=safe_range())
    return vector.save(vectors_folder() / "calm.safetensors")


BEYOND = "calm:1 is beyond its safe range (-0.5 to +0.75): answers leave the question. Without a strength, calm stays"


def test_generate_warns_once_beyond_safe_range(run, safe_file):
    _, _, err = run("generate", "Hello", "Hi", "-s", "calm:1 + calm:1", "-n", "2", "--receipt")
    assert " ".join(err.split()).count(BEYOND) == 1
    assert "beyond its safe range" not in run("generate", "Hello", "-s", "calm", "-n", "2")[2]
    code, out, err = run("generate", "Hello", "-s", "calm:1", "-n", "2", "--json")
    assert (code, json.loads(out)["receipt"]["terms"][0]["beyond_safe"]["limit"]) == (0, "relevance")
    assert BEYOND in " ".join(err.split())


def test_compare_warns_of_opposite_beyond_safe_range(run, safe_file):
    _, out, err = run("compare", "Hello", "-s", "calm:0.75", "-n", "2")
    assert "calm:-0.75 is beyond its safe range" in " ".join(err.split())
    assert "calm:0.75 is" not in err
    assert "+ calm:0.75" in out
    assert "beyond" not in run("compare", "Hello", "-s", "calm", "-n", "2")[2]


def test_chat_warns_of_new_steering_beyond_safe_range(run, safe_file):
    _, _, err = run("chat", "-n", "2", stdin="/steer calm:1\n/steer calm:1\n/steer calm:0.5\n/quit\n")
    assert " ".join(err.split()).count(BEYOND) == 1


def test_show_has_safe_range_and_written_effect(run, random_vector, smollm2, tmp_path):
    made = replace(
        random_vector(smollm2, layers=[14]),
        safe=safe_range(),
        calibration=calibration_record(written=(written_effect(),)),
    )
    _, out, _ = run("show", made.save(tmp_path / "v.safetensors"))
    shown = " ".join(out.replace("│", " ").split())
    assert "safe range -0.5 to +0.75 (below, answers repeat themselves; above, answers leave the question)" in shown
    assert "1.2 times its system prompts (95 % interval 1.0 to 1.5), on 24 held-out questions" in shown


def test_show_quick_vector_says_what_was_not_measured(run, random_vector, smollm2, tmp_path):
    _, out, _ = run(
        "show", replace(random_vector(smollm2, layers=[14]), effort="quick").save(tmp_path / "v.safetensors")
    )
    shown = " ".join(out.replace("│", " ").split())
    assert "(quick: neither refined nor checked)" in shown
    assert "safe range not measured" in shown


def test_parse_layers_accepts_ranges_and_lists():
    assert parse_layers("14-16,3") == [14, 15, 16, 3]
    assert parse_layers("auto") == "auto"


def test_steer_repeated_adds_terms(run, happy_file, random_vector, smollm2):
    random_vector(smollm2, layers=[3], name="calm").save(vectors_folder() / "calm.safetensors")
    _, out, _ = run("generate", "Hello", "-s", "happy:0.5", "-s", "calm:0.25", "-n", "2", "--json")
    assert json.loads(out)["receipt"]["steering"] == "happy:0.5 + calm:0.25"


def test_comparison_html_escapes_model_text():
    def answer(text):
        prompt = MarkedPrompt("Hi", (1, 2), ((0, 1), (1, 2)), (), (True, True), 2)
        return Completion(text, (1,), "stop", prompt, Receipt("a & b:1", (3,), 7, kl=0.25))

    compared = AnswerComparison(
        ("<p>",), "a & b:1", "a & b:-1", *((answer(text),) for text in ("<i>0</i>", "<b>1</b>", "2"))
    )
    page = compared._repr_html_()
    assert "&lt;b&gt;1&lt;/b&gt;" in page
    assert "<b>" not in page
    assert "<td>&lt;p&gt;</td>" in page
    assert page.count("a &amp; b:1: 7 tokens steered, 0.250 nats per token") == 3
    assert [entry["plus"]["text"] for entry in compared.to_json()] == ["<b>1</b>"]
