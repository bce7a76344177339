"""Inspect over a steered model, end to end and offline."""

from __future__ import annotations

import asyncio
import builtins
import json

import pytest

from tiny_models import vector_for
from trimtab import Term
from trimtab.errors import MissingDependencyError, PromptError, SteeringError
from trimtab.interop import inspect_ai as interop
from trimtab.interop import steered_model

inspect_ai = pytest.importorskip("inspect_ai", reason='needs inspect-ai: pip install "trimtab[inspect]"')
from inspect_ai.dataset import MemoryDataset, Sample  # noqa: E402
from inspect_ai.model import (  # noqa: E402
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    ContentImage,
    ContentText,
    GenerateConfig,
    ResponseSchema,
)
from inspect_ai.scorer import includes  # noqa: E402
from inspect_ai.solver import generate, system_message  # noqa: E402
from inspect_ai.tool import ToolInfo  # noqa: E402
from inspect_ai.util import JSONSchema  # noqa: E402

pytestmark = [
    # Inspect's own waiting between retries uses an option that a newer tenacity deprecates,
    pytest.mark.filterwarnings("ignore:The 'initial' parameter is deprecated:DeprecationWarning"),
    # and it leaves streams of anyio to the garbage collector.
    pytest.mark.filterwarnings("ignore:.*MemoryObject(Receive|Send)Stream:pytest.PytestUnraisableExceptionWarning"),
]

SAMPLES = (("What is the capital of France?", "Paris"), ("Say hello.", "ello"))
SYSTEM = "Answer in one sentence."


@pytest.fixture(autouse=True)
def _stay_offline(tmp_path, monkeypatch):
    for name in ("INSPECT_LOG_DIR", "INSPECT_TRACE_FILE", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


def evaluated(model, tmp_path, **options):
    """Return the log of a local task."""
    task = inspect_ai.Task(
        dataset=MemoryDataset([Sample(input=question, target=target) for question, target in SAMPLES]),
        solver=[system_message(SYSTEM), generate()],
        scorer=includes(),
    )
    settings = {"log_dir": str(tmp_path / "logs"), "display": "none", "max_tokens": 5, **options}
    (log,) = inspect_ai.eval(task, model=model, **settings)
    assert log.status == "success", log.error
    return log


def chat(question):
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


def asked(model, messages="Hello", **config):
    """One request, as a solver makes it."""
    return asyncio.run(model.generate(messages, config=GenerateConfig(**config)))


def test_eval_scores_task_and_steering_changes_answers(smollm2, tmp_path):
    vector = vector_for(smollm2, layers=[14, 16], size=0.3)
    answers = {}
    for steering in (None, [(vector, 1.5)]):
        log = evaluated(steered_model(smollm2, steering), tmp_path)
        expected = smollm2.generate([chat(question) for question, _ in SAMPLES], steering=steering, max_new_tokens=5)
        found = {sample.input: sample for sample in log.samples}
        for (question, target), completion in zip(SAMPLES, expected, strict=True):
            output = found[question].output
            assert output.completion == completion.text
            assert output.stop_reason == {"stop": "stop", "length": "max_tokens"}[completion.finish_reason]
            assert output.usage.input_tokens == completion.prompt_tokens
            assert output.usage.output_tokens == len(completion.tokens)
            assert output.metadata["steering"]["tokens"] == completion.receipt.tokens
            right = target.lower() in completion.text.lower()
            assert found[question].scores["includes"].value == ("C" if right else "I")
        answers[bool(steering)] = [completion.text for completion in expected]
        assert log.eval.model == f"trimtab/{smollm2.info.name}"
        assert log.eval.model_args == {"steering": "random:1.5" if steering else "none"}
    assert answers[True] != answers[False]
    assert list((tmp_path / "logs").iterdir())


def test_two_models_of_one_engine_keep_their_steering(llama, tmp_path):
    vector = vector_for(llama, size=0.5)
    task = inspect_ai.Task(dataset=MemoryDataset([Sample(input="Hi"), Sample(input="Ho")]), solver=generate())
    models = [steered_model(llama), steered_model(llama, [(vector, 1.0)])]
    logs = inspect_ai.eval(
        task, model=models, log_dir=str(tmp_path), display="none", max_tokens=8, max_tasks=2, max_connections=4
    )
    for log, steering in zip(
        sorted(logs, key=lambda log: str(log.eval.model_args)), (None, [(vector, 1.0)]), strict=True
    ):
        assert log.status == "success", log.error
        for sample in log.samples:
            assert sample.output.completion == llama.generate(sample.input, steering=steering, max_new_tokens=8).text


def test_sampling_settings_are_applied(llama):
    model = steered_model(llama)
    output = asked(model, temperature=0.9, top_p=0.8, seed=3, max_tokens=10)
    expected = llama.generate("Hello", temperature=0.9, top_p=0.8, seed=3, max_new_tokens=10)
    assert output.completion == expected.text
    assert (
        len({choice.message.text for choice in asked(model, temperature=1.0, max_tokens=9, num_choices=3).choices}) == 3
    )


def test_penalties_bias_and_top_k_are_applied(llama):
    settings = {"temperature": 1.5, "seed": 3, "top_k": 9, "frequency_penalty": 0.7, "presence_penalty": -0.5}
    output = asked(steered_model(llama), max_tokens=10, logit_bias={70: 5.0}, **settings)
    assert output.completion == llama.generate("Hello", max_new_tokens=10, logit_bias={70: 5.0}, **settings).text


def test_logprobs_are_reported_if_asked(llama):
    assert asked(steered_model(llama), max_tokens=3).choices[0].logprobs is None
    output = asked(steered_model(llama), max_tokens=3, logprobs=True, top_logprobs=2)
    expected = llama.generate("Hello", max_new_tokens=3, logprobs=2).logprobs
    found = output.choices[0].logprobs.content
    assert [(each.token, each.logprob) for each in found] == [(each.text, each.logprob) for each in expected]
    assert [len(each.top_logprobs) for each in found] == [2, 2, 2]
    assert found[0].top_logprobs[0].logprob == expected[0].alternatives[0].logprob
    assert asked(steered_model(llama), max_tokens=3, logprobs=True).choices[0].logprobs.content[0].top_logprobs is None


def test_answer_ends_before_stop_string(llama):
    whole = asked(steered_model(llama), max_tokens=12)
    assert whole.stop_reason == "max_tokens"
    stop = whole.completion[6]
    output = asked(steered_model(llama), max_tokens=12, stop_seqs=[stop])
    assert output.completion == whole.completion.split(stop)[0]
    assert output.stop_reason == "stop"


def test_answer_filling_window_stops_by_model_length(tiny):
    engine = tiny("llama", max_position_embeddings=32)
    output = asked(steered_model(engine))
    prompt = len(engine.marked("Hello").tokens)
    assert (output.usage.output_tokens, output.stop_reason) == (32 - prompt, "model_length")
    with pytest.raises(PromptError, match="reads 32"):
        asked(steered_model(engine), "a prompt that alone is longer than the window")


def test_request_steering_replaces_the_default(llama, monkeypatch, tmp_path):
    vector = vector_for(llama, size=0.5)
    (tmp_path / "vectors").mkdir(exist_ok=True)
    vector.save(tmp_path / "vectors" / "odd.safetensors")
    expected = llama.generate("Hello", steering=[(vector, 1.0)], max_new_tokens=8).text
    model = steered_model(llama)
    for given in ("odd:1", {"terms": [{"vector": "odd", "strength": 1}]}):
        assert asked(model, max_tokens=8, extra_body={"steering": given}).completion == expected
    assert asked(model, max_tokens=8).completion != expected
    with pytest.raises(PromptError, match="extra_body has speed"):
        asked(model, extra_body={"speed": 1})


def test_scopes_act(llama):
    scoped = [Term(vector_for(llama, size=0.5), 1.0, tokens="user")]
    assert asked(steered_model(llama, scoped), max_tokens=8).completion == (
        llama.generate("Hello", steering=scoped, max_new_tokens=8).text
    )


def test_chat_reaches_model_unchanged(llama):
    messages = [
        ChatMessageSystem(content="Be brief."),
        ChatMessageUser(content=[ContentText(text="Hi"), ContentText(text="there")]),
        ChatMessageAssistant(content="Yes?"),
        ChatMessageUser(content="Go on."),
    ]
    plain = [("system", "Be brief."), ("user", "Hi\nthere"), ("assistant", "Yes?"), ("user", "Go on.")]
    expected = llama.generate([{"role": role, "content": text} for role, text in plain], max_new_tokens=8)
    assert asked(steered_model(llama), messages, max_tokens=8).completion == expected.text


@pytest.mark.parametrize(
    "setting", [{"prompt_logprobs": 2}, {"reasoning_tokens": 9}, {"effort": "low"}, {"best_of": 2}], ids=str
)
def test_unsupported_settings_are_refused(llama, setting):
    with pytest.raises(PromptError, match=next(iter(setting))):
        asked(steered_model(llama), **setting)


def test_response_schema_constrains_an_unsteered_answer(llama):
    properties = {"ok": JSONSchema(type="boolean"), "n": JSONSchema(type="integer", enum=[1, 2])}
    schema = JSONSchema(type="object", properties=properties, required=["ok", "n"], additionalProperties=False)
    model = steered_model(llama, [(vector_for(llama, size=0.5), 1.0)])
    output = asked(model, response_schema=ResponseSchema(name="answer", json_schema=schema), max_tokens=40)
    assert set(json.loads(output.completion)) == {"ok", "n"}
    assert output.metadata["steering"] == {"steering": "none", "layers": [], "tokens": 0, "reason": "constrained"}


def test_tools_and_images_are_refused(llama):
    model = steered_model(llama)
    with pytest.raises(PromptError, match="call tools"):
        asyncio.run(model.generate("Hi", tools=[ToolInfo(name="add", description="Adds.")]))
    with pytest.raises(PromptError, match="tool calls"):
        asyncio.run(model.api.generate([ChatMessageTool(content="3")], [], "auto", GenerateConfig()))
    with pytest.raises(PromptError, match="image"):
        asked(model, [ChatMessageUser(content=[ContentImage(image="data:image/png;base64,")])])


def test_provider_model_from_name_is_refused(llama):
    steered_model(llama)
    with pytest.raises(SteeringError, match="steered_model"):
        inspect_ai.model.get_model("trimtab/anything")


def test_missing_package_error_gives_install_command(llama, monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **named):
        if name.split(".")[0] == "inspect_ai":
            raise ImportError("No module named 'inspect_ai'")
        return real(name, *rest, **named)

    interop._provider.cache_clear()
    monkeypatch.setattr(builtins, "__import__", missing)
    try:
        with pytest.raises(MissingDependencyError, match=r"trimtab\[inspect\]"):
            steered_model(llama)
    finally:
        interop._provider.cache_clear()
