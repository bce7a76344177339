"""lm-evaluation-harness over a steered model, compared with plain passes of transformers."""

from __future__ import annotations

import builtins
import json

import numpy as np
import pytest
import torch

from by_hand import logits_of, steering_by_hand
from tiny_models import vector_for
from trimtab import Term
from trimtab.engines.protocol import ForcedItem
from trimtab.errors import MissingDependencyError, PromptError, SteeringError
from trimtab.interop import lm_eval as interop
from trimtab.interop import steered_lm

lm_eval = pytest.importorskip("lm_eval", reason='needs lm-eval: pip install "trimtab[lm-eval]"')
from datasets import Dataset  # noqa: E402
from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.api.task import ConfigurableTask  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402


@pytest.fixture(autouse=True)
def _no_survey_of_the_machine(monkeypatch):
    """After every run the harness calls pip and others to describe the machine, which takes far longer than the run."""
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)


QUESTIONS = (
    {"question": "The sky on a clear day is", "choices": ["blue", "made of cheese"], "answer": 0},
    {"question": "Fish live in", "choices": ["the desert", "the water"], "answer": 1},
    {"question": "Two and two make", "choices": ["four", "a bicycle"], "answer": 0},
)
PAIRS = (("The cat sat", " on the mat"), ("The cat sat", " on the moon"), ("I am ", "glad"), ("", "Hello there"))


def task(**config):
    """Return a local task, whose documents are in memory."""
    return ConfigurableTask(
        config={
            "custom_dataset": lambda **_: {"test": Dataset.from_list(list(QUESTIONS))},
            "test_split": "test",
            "doc_to_text": "{{question}}",
            **config,
        }
    )


def choosing():
    return task(task="our_choices", output_type="multiple_choice", doc_to_choice="choices", doc_to_target="answer")


def writing(**settings):
    asked = {"until": ["\n", "."], "max_gen_toks": 6, "do_sample": False, **settings}
    return task(
        task="our_answers",
        output_type="generate_until",
        doc_to_target="{{choices[answer]}}",
        generation_kwargs=asked,
        metric_list=[{"metric": "exact_match"}],
    )


def evaluated(lm, own_task, **options):
    """Return the harness's results and samples."""
    own = TaskManager(
        include_defaults=False
    )  # with the thousands that come with the harness it reads for half a minute
    found = lm_eval.simple_evaluate(model=lm, tasks=[own_task], task_manager=own, bootstrap_iters=0, **options)
    name = own_task.config.task
    return found["results"][name], found["samples"][name], found["config"]


def requests(kind, *arguments):
    return [Instance(kind, {}, given, number) for number, given in enumerate(arguments)]


def scored_by_hand(engine, context, continuation):
    """Sum of log-probabilities and greediness of a continuation: one plain pass and the definition."""
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    tokenizer = engine.tokenizer
    prompt = tokenizer(stripped)["input_ids"] or [tokenizer.bos_token_id]
    whole = (
        tokenizer(stripped + continuation)["input_ids"] if stripped else [*prompt, *tokenizer(continuation).input_ids]
    )
    logits = logits_of(engine.model, whole)[len(prompt) - 1 : -1].double()
    targets = torch.tensor(whole[len(prompt) :])
    total = logits.log_softmax(-1)[torch.arange(len(targets)), targets].sum()
    return float(total), bool((logits.argmax(-1) == targets).all())


def quiet(engine, steering=None, **options):
    return steered_lm(engine, steering, progress=False, **options)


def test_harness_scores_equal_hooks_by_hand(smollm2):
    vector = vector_for(smollm2, layers=[14, 16], size=0.3)
    for lm, terms in ((quiet(smollm2), ()), (quiet(smollm2, [(vector, 1.0)]), ((vector, 1.0),))):
        results, samples, config = evaluated(lm, choosing())
        with steering_by_hand(smollm2.model.model.layers, *terms):
            expected = [
                [scored_by_hand(smollm2, doc["question"], f" {choice}") for choice in doc["choices"]]
                for doc in QUESTIONS
            ]
        found = [[tuple(response) for response in sample["filtered_resps"]] for sample in samples]
        np.testing.assert_allclose(np.array(found)[..., 0].astype(float), np.array(expected)[..., 0], atol=1e-4)
        assert [[flag for _, flag in own] for own in found] == [[flag for _, flag in own] for own in expected]
        right = [
            max((0, 1), key=lambda n: own[n][0]) == doc["answer"] for own, doc in zip(expected, QUESTIONS, strict=True)
        ]
        assert results["acc,none"] == pytest.approx(np.mean(right))
        assert config["steering"] == ("random:1" if terms else "none")


def test_harness_reads_answers_up_to_stop_string(smollm2):
    vector = vector_for(smollm2, layers=[14, 16], size=0.3)
    written = {}
    for steering in (None, [(vector, 1.5)]):
        _, samples, _ = evaluated(quiet(smollm2, steering), writing())
        written[bool(steering)] = [sample["filtered_resps"][0] for sample in samples]
        asked = [doc["question"] for doc in QUESTIONS]
        answers = smollm2.generate(asked, steering=steering, max_new_tokens=6, raw=True)
        assert written[bool(steering)] == [answer.text.split("\n")[0].split(".")[0] for answer in answers]
    assert written[True] != written[False]


def test_harness_chat_equals_engine_chat(smollm2):
    _, samples, _ = evaluated(
        quiet(smollm2), choosing(), apply_chat_template=True, system_instruction="Answer in a word."
    )
    chat = [
        {"role": "system", "content": "Answer in a word."},
        {"role": "user", "content": QUESTIONS[0]["question"]},
    ]
    assert samples[0]["arguments"][0][0] == smollm2.render(chat)
    (total, _), *_ = (tuple(response) for response in samples[0]["filtered_resps"])
    assert total == pytest.approx(scored_by_hand(smollm2, smollm2.render(chat), "blue")[0], abs=1e-4)


@pytest.mark.parametrize("terms", [0, 1], ids=["plain", "steered"])
def test_loglikelihood_equals_plain_pass(llama, terms):
    steering = [(vector_for(llama, size=0.5), 1.0)][:terms]
    found = quiet(llama, steering, batch_size=3).loglikelihood(requests("loglikelihood", *PAIRS), disable_tqdm=True)
    with steering_by_hand(llama.model.model.layers, *steering):
        for given, (total, greedy) in zip(PAIRS, found, strict=True):
            prompt = given if given[0] else ("<bos>", given[1])
            whole = llama.encode("".join(prompt))
            stripped = llama.encode(prompt[0].rstrip())
            logits = logits_of(llama.model, whole)[len(stripped) - 1 : -1].double()
            targets = torch.tensor(whole[len(stripped) :])
            expected = logits.log_softmax(-1)[torch.arange(len(targets)), targets].sum()
            assert total == pytest.approx(float(expected), abs=1e-4)
            assert greedy == bool((logits.argmax(-1) == targets).all())


def test_greedy_scores_mark_generated_answer_as_greedy(llama):
    steering = [(vector_for(llama, size=0.5), 1.0)]
    prompt = llama.encode("Once upon a time")
    answer = llama.generate("Once upon a time", steering=steering, max_new_tokens=6, raw=True).tokens
    other = (*answer[:-1], (answer[-1] + 1) % 256)
    item = ForcedItem(prompt, (answer, other, ()))
    with llama.steered(steering):
        scores = llama.greedy_scores([item])
    assert scores.greedy[0].tolist() == [True, False, True]
    assert scores.logprob[0][2] == 0
    assert llama.greedy_scores([item]).greedy[0].tolist()[0] is False  # without steering it would write another


@pytest.mark.parametrize("family", ["gpt2", "gemma3", "falcon_alibi", "mamba"])
def test_scores_equal_teacher_forcing(tiny, family, always_walking):
    engine = tiny(family)
    items = [ForcedItem(engine.encode(text), (engine.encode(" and")[1:], engine.encode(" or so")[1:])) for text in "ab"]
    np.testing.assert_allclose(
        engine.greedy_scores(items).logprob, engine.teacher_forcing(items).base.logprob, rtol=1e-5
    )


def test_rolling_loglikelihood_scores_each_token_once(tiny):
    window = 16
    engine = tiny("llama", max_position_embeddings=window)
    text = "a long text, longer than the window is by far"
    (found,) = quiet(engine).loglikelihood_rolling(requests("loglikelihood_rolling", (text,)), disable_tqdm=True)
    tokens = [engine.tokenizer.bos_token_id, *engine.encode(text)]
    expected = 0.0
    for start in range(1, len(tokens), window):
        stop = min(start + window, len(tokens))
        read = tokens[max(stop - window - 1, 0) : stop]
        logprobs = logits_of(engine.model, read[:-1]).double().log_softmax(-1)
        expected += sum(
            float(logprobs[n - len(read), read[n]]) for n in range(start - stop, 0) for n in [n + len(read)]
        )
    assert found == pytest.approx(expected, abs=1e-3)


def test_long_contexts_lose_their_beginning(tiny):
    engine = tiny("llama", max_position_embeddings=16)
    context = "nothing of this beginning is read, but the end is"
    with pytest.warns(UserWarning, match="cut from the left"):
        (found,) = quiet(engine).loglikelihood(requests("loglikelihood", (context, " ok")), disable_tqdm=True)
    whole = engine.encode(context + " ok")[-17:]
    logprobs = logits_of(engine.model, whole[:-1]).double().log_softmax(-1)
    assert found[0] == pytest.approx(sum(float(logprobs[n - 1, whole[n]]) for n in (14, 15, 16)), abs=1e-4)
    with pytest.warns(UserWarning, match="cut from the left"):
        (text,) = quiet(engine).generate_until(requests("generate_until", (context, {"max_gen_toks": 4})), True)
    assert text == engine.generate(engine.decode(engine.encode(context)[-11:]), max_new_tokens=4, raw=True).text


def test_answers_in_rounds_equal_answers_at_once(llama, monkeypatch):
    monkeypatch.setattr(interop, "FIRST_ROUND", 2)
    texts = [llama.generate(context, max_new_tokens=40, raw=True).text for context in ("Once", "Never")]
    stop = texts[0][5]  # it comes in the second round, so the first answer is none of those that are gone on with
    limits = []

    def generate(self, *given, **options):
        limits.append((len(given[0]), options["max_new_tokens"]))
        return whole(self, *given, **options)

    whole = type(llama).generate
    monkeypatch.setattr(type(llama), "generate", generate)
    asked = {"until": [stop], "max_gen_toks": 40}
    found = quiet(llama).generate_until(requests("generate_until", ("Once", asked), ("Never", asked)), True)
    assert found == [text.split(stop)[0] for text in texts]
    assert limits[0] == (2, 2)
    assert sum(rows * limit for rows, limit in limits) < 2 * 40 + 2 * 8 + 2 * 2


def test_sampled_answers_repeat_by_seed_and_vary_by_repeat(llama):
    asked = requests("generate_until", *[("Well", {"do_sample": True, "temperature": 1.0, "max_gen_toks": 8})] * 4)
    lm = quiet(llama, batch_size=2)
    texts = lm.generate_until(asked, True)
    assert len(set(texts)) == 4
    assert lm.generate_until(asked, True) == texts
    assert quiet(llama, batch_size=2, seed=7).generate_until(asked, True) != texts


def test_sampling_settings_of_tasks_are_applied(llama):
    given = {"do_sample": True, "temperature": 2.0, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.4}
    (text,) = quiet(llama).generate_until(requests("generate_until", ("Well", {**given, "max_gen_toks": 8})), True)
    given.pop("do_sample")
    assert text == llama.generate("Well", seed=0, max_new_tokens=8, raw=True, **given).text
    greedy = {"do_sample": False, "top_k": 5, "min_p": 0.1, "frequency_penalty": 1.5, "max_gen_toks": 8}
    (text,) = quiet(llama).generate_until(requests("generate_until", ("Well", greedy)), True)
    assert text == llama.generate("Well", frequency_penalty=1.5, max_new_tokens=8, raw=True).text


def test_empty_context_begins_with_prefix_token(llama):
    (text,) = quiet(llama, max_new_tokens=5).generate_until(requests("generate_until", ("", {})), True)
    assert text == llama.generate("<bos>", max_new_tokens=5, raw=True).text


@pytest.mark.parametrize("setting", [{"no_repeat_ngram_size": 2}, {"num_beams": 4}, {"something": 1}], ids=str)
def test_unsupported_settings_are_refused(llama, setting):
    with pytest.raises(PromptError, match=next(iter(setting))):
        quiet(llama).generate_until(requests("generate_until", ("Hi", {"max_gen_toks": 2, **setting})), True)


def test_scopes_act_in_generation_only(llama):
    scoped = [Term(vector_for(llama, size=0.5), 1.0, tokens="generated")]
    lm = quiet(llama, scoped, max_new_tokens=6)
    (text,) = lm.generate_until(requests("generate_until", ("Hello", {})), True)
    assert text == llama.generate("Hello", steering=scoped, max_new_tokens=6, raw=True).text
    with pytest.raises(SteeringError, match="scores given ones"):
        lm.loglikelihood(requests("loglikelihood", PAIRS[0]), disable_tqdm=True)


def test_cache_of_other_steering_is_refused(llama, tmp_path):
    def run(steering):
        return evaluated(quiet(llama, steering), choosing(), use_cache=str(tmp_path / "responses"))[1]

    first = run(None)
    again = run(None)
    assert [sample["filtered_resps"] for sample in again] == [sample["filtered_resps"] for sample in first]
    with pytest.raises(SteeringError, match="use_cache another file"):
        run([(vector_for(llama), 1.0)])


def test_harness_record_is_json(llama):
    assert set(json.loads(json.dumps(quiet(llama).get_model_info()))) >= {"model_name", "steering"}


def test_render_prefilled_answer_stays_open(smollm2):
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well,"}]
    assert quiet(smollm2).apply_chat_template(chat, add_generation_prompt=False).endswith("assistant\nWell,")
    with pytest.raises(PromptError, match="assistant"):
        quiet(smollm2).apply_chat_template(chat[:1], add_generation_prompt=False)


def test_encoder_decoder_is_refused(llama, monkeypatch):
    monkeypatch.setattr(llama, "has_encoder", True)
    with pytest.raises(SteeringError, match="encoder"):
        quiet(llama)


def test_missing_package_error_gives_install_command(llama, monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **named):
        if name.split(".")[0] == "lm_eval":
            raise ImportError("No module named 'lm_eval'")
        return real(name, *rest, **named)

    interop._lm_class.cache_clear()
    monkeypatch.setattr(builtins, "__import__", missing)
    try:
        with pytest.raises(MissingDependencyError, match=r"trimtab\[lm-eval\]"):
            steered_lm(llama)
    finally:
        interop._lm_class.cache_clear()
