from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

from neutral_vectors import reader_for
from steered_reference import read_steered
from steered_terms import ModelContext, term
from tiny_models import EOS
from trimtab.engines.constraints import Constraint, Tag
from trimtab.engines.protocol import Completion
from trimtab.engines.transformers import Chat, TransformersEngine
from trimtab.engines.transformers.decode import row as row_module
from trimtab.engines.transformers.decode.constraints import ConstraintState
from trimtab.errors import ConstraintError, PromptError, SteeringError
from trimtab.steering import Add, Steering
from trimtab.vectors import ControlVector

YES_NO = Constraint.choice(["yes", "no"])
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "n"],
    "additionalProperties": False,
}


@pytest.fixture
def strong(llama: TransformersEngine, random_vector: Callable[..., ControlVector]) -> ControlVector:
    return random_vector(llama, size=2.0)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_generate_under_constraints_keeps_them(llama: TransformersEngine, temperature: float) -> None:
    constraints = [YES_NO, {"regex": "[0-9]{3}"}, Constraint.json_schema(SCHEMA), None]
    answers = llama.generate(
        ["Hi", "Hello you", "a", "Hi"], constraint=constraints, temperature=temperature, seed=3, max_new_tokens=60
    )
    assert answers[0].text in ("yes", "no")
    assert answers[1].text.isdecimal()
    assert len(answers[1].text) == 3
    jsonschema.validate(json.loads(answers[2].text), SCHEMA)
    assert [answer.finish_reason for answer in answers[:3]] == ["stop"] * 3
    alone = llama.generate("Hi", temperature=temperature, seed=3, max_new_tokens=60)
    free = llama.generate(["Hi", "Hi"], temperature=temperature, seed=3, max_new_tokens=60)
    assert answers[3].text == free[1].text  # a second answer to the same prompt, beside constrained ones or not
    assert alone.text == free[0].text


def test_constrained_answers_do_not_depend_on_neighbours(llama: TransformersEngine) -> None:
    constraints = [Constraint.json_schema(SCHEMA), Constraint.regex("[a-z]{1,9}"), YES_NO]
    prompts = ["one", "another", "a third"]
    together = llama.generate(prompts, constraint=constraints, temperature=1.0, seed=1, max_new_tokens=60)
    for prompt, constraint, answer in zip(prompts, constraints, together, strict=True):
        alone = llama.generate(prompt, constraint=constraint, temperature=1.0, seed=1, max_new_tokens=60)
        assert alone.tokens == answer.tokens


def test_greedy_choice_is_the_likelier_one(llama: TransformersEngine) -> None:
    answer = llama.generate("Hi", constraint=Constraint.choice(["a", "b", "c"]))
    logits = llama.predict([(answer.prompt.tokens, answer.tokens)])[0][0]
    tokens = {text: llama.tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in "abc"}
    assert answer.text == max(tokens, key=lambda text: logits[tokens[text]])


def test_constrained_answer_is_unsteered(llama: TransformersEngine, strong: ControlVector) -> None:
    plain = llama.generate("Hi", constraint=Constraint.json_schema(SCHEMA), max_new_tokens=60)
    quiet = llama.generate("Hi", constraint=Constraint.json_schema(SCHEMA), steering=[(strong, 1)], max_new_tokens=60)
    assert (quiet.tokens, quiet.logprob) == (plain.tokens, plain.logprob)
    assert (quiet.receipt.tokens, quiet.receipt.reason, quiet.receipt.terms) == (0, "constrained", ())
    assert quiet.to_json()["receipt"]["reason"] == "constrained"
    steer = Constraint.json_schema(SCHEMA, steer=True)
    steered = llama.generate("Hi", constraint=steer, steering=[(strong, 1)], max_new_tokens=60)
    assert steered.logprob != plain.logprob
    assert steered.receipt.tokens == len(steered.prompt.tokens) - 1 + len(steered.tokens) - 1
    assert steered.receipt.reason is None


def test_constrained_row_leaves_others_steered(llama: TransformersEngine, strong: ControlVector) -> None:
    mixed = llama.generate(["Hi", "Hi"], constraint=[YES_NO, None], steering=[(strong, 1)], max_new_tokens=5)
    assert mixed[0].receipt.tokens == 0
    assert mixed[1].receipt.tokens > 0


def test_constrained_answer_in_steered_block_is_refused(llama: TransformersEngine, strong: ControlVector) -> None:
    with llama.steered([(strong, 1)]):
        with pytest.raises(SteeringError, match="steer=True"):
            llama.generate("Hi", constraint=YES_NO)
        answer = llama.generate("Hi", constraint=Constraint.choice(["yes", "no"], steer=True))
    assert answer.receipt.tokens > 0


def test_too_few_tokens_end_by_length(llama: TransformersEngine) -> None:
    answer = llama.generate("Hi", constraint=Constraint.json_schema(SCHEMA), max_new_tokens=6)
    assert answer.finish_reason == "length"
    assert answer.text == '{"name'


def test_forced_text_takes_the_tokens_of_the_tokenizer(llama: TransformersEngine) -> None:
    text = "forced: ö\U0001f600"
    answer = llama.generate("Hi", constraint=Constraint.choice([text]), temperature=2.0, seed=0)
    assert answer.text == text
    assert list(answer.tokens) == llama.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert answer.finish_reason == "stop"


def test_stream_and_several_answers_are_constrained(llama: TransformersEngine) -> None:
    with llama.stream("Hi", constraint=YES_NO, temperature=1.0, seed=5) as stream:
        assert "".join(token.text for token in stream) in ("yes", "no")
    several = llama.generate("Hi", n=12, constraint=YES_NO, temperature=3.0, seed=5)
    assert {answer.text for answer in several} == {"yes", "no"}


def test_sampling_options_act_inside_a_constraint(llama: TransformersEngine) -> None:
    yes = llama.tokenizer("yes", add_special_tokens=False)["input_ids"][0]
    assert llama.generate("Hi", constraint=YES_NO, logit_bias={yes: 100}).text == "yes"
    assert llama.generate("Hi", constraint=YES_NO, logit_bias={yes: -100}).text == "no"
    long = llama.generate("Hi", constraint=Constraint.regex("[ab]+"), min_tokens=9, max_new_tokens=12)
    assert len(long.text) >= 9
    assert llama.generate("Hi", constraint=Constraint.regex("a?"), min_tokens=2).text == "a"  # then it is complete


@pytest.mark.parametrize("cache", ["recompute", "keep"])
def test_chat_constrains_a_turn_unsteered(llama: TransformersEngine, strong: ControlVector, cache: str) -> None:
    chat = Chat(llama, steering=[(strong, 1)], cache="keep" if cache == "keep" else "recompute")
    chat.send("Hi", max_new_tokens=4)
    constraint = Constraint.choice(["a", "b", "c", "d"])
    answer = chat.send("Which?", constraint=constraint, max_new_tokens=9)
    fresh = Chat(llama, messages=chat.messages[:-2])
    assert answer.logprob == pytest.approx(
        fresh.send("Which?", constraint=constraint, max_new_tokens=9).logprob, abs=1e-5
    )
    assert chat.send("And now?", max_new_tokens=3).receipt.tokens > 0


def test_choose_equals_separate_passes(llama: TransformersEngine) -> None:
    choices = ["yes", "yes please", "no", "ö"]
    chosen = llama.choose("Hi", choices)
    assert sum(chosen.probabilities) == pytest.approx(1)
    prompt = llama.marked("Hi").tokens
    for choice, logprob in zip(choices, chosen.logprobs, strict=True):
        tokens = (*llama.tokenizer(choice, add_special_tokens=False)["input_ids"], EOS)
        with torch.inference_mode():
            logits = llama.model(torch.tensor([prompt + tokens])).logits[0].double().log_softmax(-1)
        steps = [logits[len(prompt) - 1 + n, token].item() for n, token in enumerate(tokens)]
        assert logprob == pytest.approx(sum(steps), abs=1e-4)
    weights = np.exp(chosen.logprobs)
    assert chosen.probabilities == pytest.approx(weights / weights.sum())
    assert chosen.best == choices[int(np.argmax(chosen.logprobs))]
    assert chosen.to_json()["choices"][0]["text"] == "yes"


def test_choose_sums_over_all_stop_tokens(llama: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    one = llama.choose("Hi", ["a", "b"])
    other = ord("z")
    monkeypatch.setattr(TransformersEngine, "stop_tokens", property(lambda _: (other,)))
    two = llama.choose("Hi", ["a", "b"])
    monkeypatch.setattr(TransformersEngine, "stop_tokens", property(lambda _: (EOS, other)))
    both = llama.choose("Hi", ["a", "b"])
    assert both.logprobs == pytest.approx(
        [math.log(math.exp(x) + math.exp(y)) for x, y in zip(one.logprobs, two.logprobs, strict=True)]
    )


def test_choose_several_prompts_steered(llama: TransformersEngine, strong: ControlVector) -> None:
    prompts = ["Hi", [{"role": "user", "content": "What is it?"}]]
    plain = llama.choose(prompts, ["yes", "no"])
    for prompt, together in zip(prompts, plain, strict=True):
        assert together.logprobs == pytest.approx(llama.choose([prompt], ["yes", "no"])[0].logprobs)
    steered = llama.choose("Hi", ["yes", "no"], steering=[(strong, 1)])
    assert steered.logprobs != pytest.approx(plain[0].logprobs, abs=1e-2)
    assert steered.steering == str(strong.behaviour.name) + ":1"
    answer = llama.generate("Hi", constraint=Constraint.choice([steered.best], steer=True), steering=[(strong, 1)])
    assert answer.logprob is not None
    assert steered.logprobs[steered.choices.index(steered.best)] < answer.logprob  # which leaves out the end


def test_choose_refuses_bad_choices(llama: TransformersEngine, strong: ControlVector) -> None:
    for choices, match in (([], "nothing to choose"), (["a", "a"], "twice"), (["<eos>"], "special token")):
        with pytest.raises(ConstraintError, match=match):
            llama.choose("Hi", choices)
    with pytest.raises(PromptError, match="reads 256"):
        llama.choose("a" * 200, ["b" * 100])
    with llama.steered([(strong, 1)]), pytest.raises(SteeringError, match="choosing inside steered"):
        llama.choose("Hi", ["yes", "no"])


def test_constraint_too_complex_for_its_row_is_an_error(llama: TransformersEngine) -> None:
    hostile = Constraint.regex("((a{1,50}){1,50}){1,50}")
    with pytest.raises(ConstraintError, match="regular expression became too complex after"):
        llama.generate("Hi", constraint=hostile, max_new_tokens=60, min_tokens=50)
    assert llama.generate("Hi", max_new_tokens=3).tokens  # the model goes on


PART = Constraint.json_schema(SCHEMA)
# Answers of different letters, in which any two letters may be a trigger.
LETTERS: dict[str, Any] = {"temperature": 1.0, "seed": 4, "logit_bias": dict.fromkeys(range(64, 90), 30)}


@pytest.fixture
def trigger(llama: TransformersEngine, strong: ControlVector) -> str:
    """Return two letters that a steered answer has after a few others."""
    return trigger_in(llama.generate("Hi", steering=[(strong, 0.5)], max_new_tokens=30, **LETTERS).text)


def trigger_in(text: str) -> str:
    return next(text[n : n + 2] for n in range(4, 12) if text.find(text[n : n + 2]) == n)


def part_of(text: str, trigger: str) -> tuple[int, int]:
    """Return the characters from the last one of the trigger up to the end of the part."""
    begin = text.index(trigger) + len(trigger)
    _, count = json.JSONDecoder().raw_decode(text[begin:])
    return begin - 1, begin + count


@pytest.mark.parametrize("path", ["flat", "static", "block"])
def test_tagged_part_is_left_out_as_in_a_slow_reference(
    llama: TransformersEngine, strong: ControlVector, path: str
) -> None:
    host = ModelContext(llama, llama.model.model.layers, (strong, strong))
    given, by_hand = term(strong, Add(), amount=0.5)
    trigger = trigger_in(llama.generate("Hi", steering=Steering((given,)), max_new_tokens=30, **LETTERS).text)
    constraint = Constraint.tags([Tag(trigger, PART, end="]")], once=True)
    options = {"constraint": constraint, "logprobs": 0, "max_new_tokens": 70, **LETTERS}
    if path == "block":
        with llama.steered(Steering((given,))):
            answer = llama.generate("Hi", **options)
    else:
        answer = llama.generate("Hi", steering=Steering((given,)), use_cache=path == "flat", **options)
    text = llama._decode_all(answer.tokens)
    begin, stop = part_of(text, trigger)
    assert text[stop] == "]"
    jsonschema.validate(json.loads(text[begin + 1 : stop]), SCHEMA)
    held = range(begin, stop + 1)  # a token is a byte, and all of them are ASCII up to there
    assert text[: stop + 1].isascii()
    by_hand = replace(by_hand, rule=lambda seen: float(seen.generated not in held))
    prompt = host.prompt([{"role": "user", "content": "Hi"}])
    for number, token in enumerate(answer.tokens):
        read = read_steered(llama.model, host.blocks, prompt, answer.tokens[:number], [by_hand])
        logprob = read.logits.log_softmax(-1)[token].item()
        assert answer.logprobs is not None
        assert answer.logprobs[number].logprob == pytest.approx(logprob, abs=1e-4)
    (receipt,) = answer.receipt.terms
    assert receipt.constrained == len(held)
    assert receipt.tokens == len(prompt.tokens) - 1 + len(answer.tokens) - 1 - len(held)
    assert answer.receipt.tokens == receipt.tokens
    assert answer.receipt.reason is None
    assert answer.to_json()["receipt"]["terms"][0]["constrained"] == len(held)


def test_free_text_beside_tags_is_that_without_them(
    llama: TransformersEngine, strong: ControlVector, trigger: str
) -> None:
    steering = [(strong, 0.5)]
    free = llama.generate("Hi", steering=steering, max_new_tokens=40, **LETTERS)
    tags = Constraint.tags([Tag("never written", PART)])
    same = llama.generate("Hi", steering=steering, constraint=tags, max_new_tokens=40, **LETTERS)
    assert same.tokens == free.tokens
    assert same.receipt == replace(free.receipt, steering=same.receipt.steering)
    greedy = llama.generate("Hi", steering=steering, max_new_tokens=40, **LETTERS).text
    answer = llama.generate("Hi", steering=steering, constraint=Constraint.tags([Tag(trigger, PART)]), **LETTERS)
    begin = greedy.index(trigger) + len(trigger)
    assert answer.text[:begin] == greedy[:begin]
    assert answer.text[begin] == "{"


def test_tags_with_steer_are_steered_everywhere(llama: TransformersEngine, strong: ControlVector, trigger: str) -> None:
    tags = Constraint.tags([Tag(trigger, PART)], steer=True)
    answer = llama.generate("Hi", steering=[(strong, 0.5)], constraint=tags, max_new_tokens=40, **LETTERS)
    assert answer.receipt.tokens == len(answer.prompt.tokens) - 1 + len(answer.tokens) - 1
    assert answer.receipt.terms[0].constrained == 0


def test_tagged_answers_do_not_depend_on_neighbours(llama: TransformersEngine, strong: ControlVector) -> None:
    steering, prompts = [(strong, 0.5)], ["Hi", "He", "Ho", "Hu"]
    options: dict[str, Any] = {"steering": steering, "max_new_tokens": 60, **LETTERS}
    triggers = [trigger_in(answer.text) for answer in llama.generate(prompts, **options)]
    constraints = [Constraint.tags([Tag(trigger, PART, "]")]) for trigger in triggers[:2]]
    rows = [*constraints, PART, None]
    together = llama.generate(prompts, constraint=rows, **options)
    static = llama.generate(prompts, constraint=rows, use_cache=False, **options)
    for prompt, constraint, answer, other in zip(prompts, rows, together, static, strict=True):
        alone = llama.generate(prompt, constraint=constraint, **options)
        assert answer.tokens == alone.tokens == other.tokens
        assert answer.receipt.tokens == alone.receipt.tokens == other.receipt.tokens
    assert all(answer.receipt.terms[0].constrained for answer in together[:2])


def test_stream_and_chat_take_tags(llama: TransformersEngine, strong: ControlVector, trigger: str) -> None:
    tags = {"tags": [{"begin": trigger, "json_schema": SCHEMA, "end": "]"}], "once": True}
    with llama.stream("Hi", steering=[(strong, 0.5)], constraint=tags, max_new_tokens=70, **LETTERS) as stream:
        text = "".join(token.text for token in stream)
    begin, stop = part_of(text, trigger)
    jsonschema.validate(json.loads(text[begin + 1 : stop]), SCHEMA)
    submitted = llama.submit("Hi", steering=[(strong, 0.5)], constraint=tags, max_new_tokens=70, **LETTERS).result()
    assert submitted.text == text
    chat = Chat(llama, steering=[(strong, 0.5)], cache="keep")
    assert chat.send("Hi", constraint=tags, max_new_tokens=70, **LETTERS).text == text
    assert chat.send("And now?", max_new_tokens=3).receipt.tokens < len(stream.completion.tokens)


FORCED = Constraint.json_schema(
    {
        "type": "object",
        "properties": {"a long name": {"enum": ["one", "other"]}, "and": {"const": "nothing more than this"}},
        "required": ["a long name", "and"],
        "additionalProperties": False,
    }
)


def passes(engine: TransformersEngine, work: Callable[[], Completion]) -> tuple[Completion, int]:
    """Return an answer, and the number of passes of the model that it took."""
    count = [0]
    handle = engine.blocks.body.register_forward_pre_hook(lambda *_: count.__setitem__(0, count[0] + 1))
    try:
        return work(), count[0]
    finally:
        handle.remove()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 1.2, "seed": 1},
        {"constraint": replace(FORCED, steer=True)},
        {"repetition_penalty": 1.5, "frequency_penalty": 0.5, "presence_penalty": 0.5, "temperature": 1.0, "seed": 3},
        {"stop": ["more"]},
        *({"max_new_tokens": count} for count in (1, 2, 3, 9, 17, 18, 19, 20)),
        {"constraint": Constraint.tags([Tag("a", FORCED, "]")]), **LETTERS},
        {"constraint": Constraint.tags([Tag("a", FORCED, "]")], steer=True), **LETTERS},
        {"logprobs": None, "temperature": 1.2, "seed": 1},
        {"logprobs": None, "stop": ["more"], "temperature": 1.0, "seed": 0},
        *({"logprobs": None, "temperature": 1.0, "max_new_tokens": count} for count in (17, 18, 19)),
        {"logprobs": None, "constraint": Constraint.tags([Tag("a", FORCED, "]")]), **LETTERS},
    ],
    ids=str,
)
def test_forced_tokens_are_read_at_once_with_the_same_answer(
    llama: TransformersEngine, strong: ControlVector, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    given: dict[str, Any] = {"constraint": FORCED, "max_new_tokens": 90, "steering": [(strong, 0.5)], "logprobs": 2}
    given |= options

    def answer() -> Completion:
        return llama.submit("Hi", **given).result()

    together, few = passes(llama, answer)
    monkeypatch.setattr(row_module, "FORCED", 0)
    single, many = passes(llama, answer)
    assert (together.tokens, together.text, together.finish_reason) == (
        single.tokens,
        single.text,
        single.finish_reason,
    )
    assert (together.logprob is None) == (given.get("temperature", 0) > 0)
    for one, other in zip(together.logprobs or (), single.logprobs or (), strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert [each.token for each in one.alternatives] == [each.token for each in other.alternatives]
    assert together.receipt.tokens == single.receipt.tokens
    for one, other in zip(together.receipt.terms, single.receipt.terms, strict=True):
        assert (one.tokens, one.constrained) == (other.tokens, other.constrained)
        assert one.shift == pytest.approx(other.shift, rel=1e-4)
    if len(single.tokens) > 20:
        assert few < many - 10
    if "stop" in options:
        assert together.text.endswith('","and":"nothing ')


def test_readings_of_forced_tokens_are_one_by_one(llama: TransformersEngine) -> None:
    reader = reader_for(llama, seed=1)
    answer = llama.generate("Hi", constraint=FORCED, max_new_tokens=90, read=[reader])
    assert answer.finish_reason == "stop"
    (readings,) = answer.readings.values()
    assert len(set(readings)) == len(answer.tokens)


def test_forced_tokens_beside_others_are_those_alone(llama: TransformersEngine, strong: ControlVector) -> None:
    rows = [FORCED, None, replace(FORCED, steer=True), Constraint.tags([Tag("a", FORCED)]), FORCED, PART]
    prompts = ["Hi", "How are you?", "What is it, then?", "Hi there", "Oh", "Say something that is longer"]
    options: dict[str, Any] = {"max_new_tokens": 90, "logprobs": 0, "steering": [(strong, 0.5)], **LETTERS}
    beside = [llama.submit(prompt, constraint=row, **options) for prompt, row in zip(prompts, rows, strict=True)]
    for prompt, row, request in zip(prompts, rows, beside, strict=True):
        answer, alone = request.result(), llama.submit(prompt, constraint=row, **options).result()
        assert answer.tokens == alone.tokens
        assert answer.receipt.tokens == alone.receipt.tokens
        assert answer.logprobs is not None
        assert alone.logprobs is not None
        for one, other in zip(answer.logprobs, alone.logprobs, strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


def test_masks_are_computed_beside_the_pass(llama: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    original = ConstraintState._next_mask

    def noted(state: ConstraintState) -> Any:
        threads.append(threading.current_thread())
        return original(state)

    plain = llama.submit("Hi", constraint=PART, max_new_tokens=60).result()
    monkeypatch.setattr(ConstraintState, "_next_mask", noted)
    answer = llama.submit("Hi", constraint=PART, max_new_tokens=60).result()
    assert answer.tokens == plain.tokens
    beside = [thread for thread in threads if thread.name != "trimtab-decoding"]
    assert len(beside) > len(threads) / 2
    for thread in beside:
        thread.join(10)
    assert not any(thread.is_alive() for thread in beside)
