"""Steered model for the Python API of EleutherAI's lm-evaluation-harness.

Tokens, windows and stop strings are treated as the harness's own ``HFLM`` treats them, so that without steering the
numbers are those of ``HFLM`` for the same weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, final

from trimtab.engines.protocol import Evaluates, ForcedItem, Tokens
from trimtab.engines.sampling import Sampling
from trimtab.errors import MissingDependencyError, PromptError, SteeringError
from trimtab.steering import Steering, SteeringLike

if TYPE_CHECKING:
    from lm_eval.api.model import LM


INSTALL = 'pip install "trimtab[lm-eval]"'
FALLBACK_WINDOW = 2048  # as HFLM has it, where a model's config says nothing
FIRST_ROUND, GROWTH = 32, 4  # tokens written before stop strings are looked for, and how that number grows
MARK = "trimtab steering"  # key in a cache of responses for the model and steering that gave them
WITHOUT_EFFECT: Mapping[str, tuple[Any, ...]] = {  # settings that the engine does not have, where they change nothing
    "num_beams": (None, 1),
    "num_return_sequences": (None, 1),
    "no_repeat_ngram_size": (None, 0),
    "length_penalty": (None, 1.0),
    "use_cache": (None, True),
}
OF_SAMPLING = ("typical_p",)  # changes nothing in a greedy answer
USED = (
    "do_sample",
    "until",
    "max_gen_toks",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)


def steered_lm(
    engine: Evaluates,
    steering: SteeringLike = None,
    *,
    max_new_tokens: int = 256,
    batch_size: int = 32,
    seed: int | None = 0,
    progress: bool = True,
) -> LM:
    """Return a model for ``lm_eval.simple_evaluate(model=...)``, steered in every request.

    Args:
        engine: The model, as ``trimtab.load`` gives it.
        steering: Whatever ``Steering.of`` takes. Token scopes and conditions act in ``generate_until`` tasks alone.
        max_new_tokens: Upper bound on an answer's length, where a task does not give one.
        batch_size: Requests that are worked on together.
        seed: Makes sampling reproducible, where a task samples; None uses a new seed.
        progress: Show progress bars, as the harness's own models do.

    Raises:
        MissingDependencyError: lm-eval is not installed.
        SteeringError: It is no steering for this model, or an encoder reads the model's prompts.
        VectorError: A vector that the steering names cannot be found.

    Example:
        >>> lm = steered_lm(model, "happy:0.5")  # doctest: +SKIP
        >>> lm_eval.simple_evaluate(model=lm, tasks=["arc_easy"], limit=20)["results"]  # doctest: +SKIP
    """
    made = _lm_class()
    if not (engine.capabilities.predicts and engine.capabilities.reads_every_token):
        raise SteeringError(
            f"an encoder reads the prompts of {engine.info.name}", fix="evaluate a decoder-only model with lm-eval"
        )
    if batch_size < 1:
        raise PromptError(f"batch_size is {batch_size}", fix="work on at least 1 request at a time")
    chosen = Steering.of(steering)
    chosen.compile(engine.info)  # report errors before the harness begins
    lm: LM = made(engine, chosen, max_new_tokens, batch_size, seed, progress)
    return lm


@cache
def _lm_class() -> Any:
    """Return the harness's class of models over an engine."""
    try:
        from lm_eval import utils
        from lm_eval.api.model import TemplateLM
        from lm_eval.models.utils import normalize_gen_kwargs
        from tqdm import tqdm
    except ImportError as error:
        raise MissingDependencyError(f"lm-eval cannot be imported: {error}", fix=INSTALL) from None

    @final
    class SteeredLM(TemplateLM):  # type: ignore[misc]
        """Log-likelihoods and answers of a steered model."""

        def __init__(
            self, engine: Evaluates, steering: Steering, limit: int, batch_size: int, seed: int | None, progress: bool
        ) -> None:
            super().__init__()
            self._engine, self._steering, self._limit = engine, steering, limit
            self._batch_size, self._seed, self._progress = batch_size, seed, progress
            self.tokenizer = engine.tokenizer
            self._device = engine.model.device

        @property
        def eot_token_id(self) -> int:
            return int(self.tokenizer.eos_token_id)

        @property
        def prefix_token_id(self) -> int:
            start = self.tokenizer.bos_token_id
            return self.eot_token_id if start is None else int(start)

        @property
        def max_length(self) -> int:
            return self._engine.capabilities.context_window or FALLBACK_WINDOW

        @property
        def max_gen_toks(self) -> int:
            return self._limit

        @property
        def tokenizer_name(self) -> str:
            return str(self.tokenizer.name_or_path).replace("/", "__")

        def get_model_info(self) -> dict[str, str]:
            info = self._engine.info
            return {"model_name": info.name, "model_fingerprint": info.fingerprint, "steering": str(self._steering)}

        def set_cache_hook(self, cache_hook: Any) -> None:
            _check_cache(cache_hook.dbdict, owner=f"{self.get_model_info()}")
            super().set_cache_hook(cache_hook)

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
            if add_special_tokens is None:
                return list(self._engine.encode(string))
            return list(self.tokenizer(string, add_special_tokens=add_special_tokens)["input_ids"])

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            if add_generation_prompt:
                return self._engine.render(chat_history)
            *before, last = chat_history
            if last["role"] != "assistant" or not before:
                raise PromptError(
                    "a chat that is not to be answered ends with what the assistant said",
                    fix="let the last message be the assistant's",
                )
            return self._engine.render(before, continuation=last["content"])

        def _loglikelihood_tokens(
            self, requests: list[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **_: Any
        ) -> list[tuple[float, bool]]:
            scores: list[tuple[float, bool]] = []
            items = _items(requests, window=self.max_length)
            for batch in self._batches(requests, "Running loglikelihood requests", disable_tqdm):
                _check_everywhere(self._steering)
                with self._engine.steered(self._steering):
                    forced = self._engine.greedy_scores(items[len(scores) : len(scores) + len(batch)])
                scored = [(float(a[0]), bool(b[0])) for a, b in zip(forced.logprob, forced.greedy, strict=True)]
                for (request, *_), answer in zip(batch, scored, strict=True):
                    if request is not None:
                        self.cache_hook.add_partial("loglikelihood", request, answer)
                scores += scored
            return scores

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
            windows = [self._windows(request.args[0]) for request in requests]
            flat = [(None, *window) for text in windows for window in text]
            scores = iter(self._loglikelihood_tokens(flat, disable_tqdm))
            totals = [sum(next(scores)[0] for _ in text) for text in windows]
            for request, total in zip(requests, totals, strict=True):
                self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
            return totals

        def _windows(self, text: str) -> list[tuple[list[int], list[int]]]:
            """Cut the text to the model's window: tokens that are only read, and tokens that are scored."""
            windows = utils.get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            return [utils.make_disjoint_window(window) for window in windows]

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            written: dict[int, str] = {}
            numbered = list(enumerate(requests))
            for count, batch in enumerate(self._batches(numbered, "Running generate_until requests", disable_tqdm)):
                alike: dict[str, list[int]] = {}
                for number, request in batch:
                    alike.setdefault(repr(request.args[1]), []).append(number)
                for numbers in alike.values():
                    settings = _settings(normalize_gen_kwargs(requests[numbers[0]].args[1], self.max_gen_toks))
                    contexts = [self._fitting(requests[number].args[0], settings) for number in numbers]
                    for number, text in zip(numbers, self._written(contexts, settings, batch=count), strict=True):
                        written[number] = text
                        self.cache_hook.add_partial("generate_until", requests[number].args, text)
            return [written[number] for number in range(len(requests))]

        def _fitting(self, context: str, settings: Sampling) -> str:
            """Return the context, cut from the left if it leaves no room for the answer."""
            if not context:
                return str(self.tokenizer.decode([self.prefix_token_id]))
            room = self.max_length - settings.max_new_tokens
            tokens = self._engine.encode(context)
            if len(tokens) <= room:
                return context
            if room < 1:
                raise PromptError(
                    f"{settings.max_new_tokens} tokens for the answer do not fit into the {self.max_length} that "
                    f"{self._engine.info.name} reads",
                    fix="lower max_gen_toks",
                )
            _warn_cut(len(tokens), room)
            for start in range(len(tokens) - room, len(tokens)):  # token borders may move at a cut
                text = str(self.tokenizer.decode(list(tokens[start:])))
                if len(self._engine.encode(text)) <= room:
                    return text
            raise PromptError(f"no end of a context of {len(tokens)} tokens fits", fix="lower max_gen_toks")

        def _written(self, contexts: Sequence[str], settings: Sampling, *, batch: int) -> list[str]:
            """Return answers up to the first stop string.

            Greedy answers are written in longer and longer rounds of the unfinished ones, since few need all the tokens
            that tasks allow. Each round starts again and gives the same tokens.
            A repeated prompt is sampled again: within a batch by the engine, else by another seed.
            """
            seed = None if self._seed is None else self._seed + batch
            texts: dict[int, str] = {}
            waiting = list(range(len(contexts)))
            for limit in _rounds(settings):
                completions = self._engine.generate(
                    [contexts[number] for number in waiting],
                    steering=self._steering,
                    sampling=settings,
                    max_new_tokens=limit,
                    seed=seed,
                    raw=True,
                )
                answered = dict(zip(waiting, completions, strict=True))
                texts |= {number: completion.text for number, completion in answered.items()}
                waiting = [number for number, completion in answered.items() if completion.finish_reason == "length"]
                if not waiting:
                    break
            return [texts[number] for number in range(len(contexts))]

        def _batches(self, requests: Sequence[Any], title: str, quiet: bool) -> Iterator[list[Any]]:
            size = self._batch_size
            with tqdm(total=len(requests), desc=title, disable=quiet or not self._progress) as bar:
                for start in range(0, len(requests), size):
                    batch = list(requests[start : start + size])
                    yield batch
                    bar.update(len(batch))

    return SteeredLM


def _items(requests: Sequence[tuple[Any, list[int], list[int]]], *, window: int) -> list[ForcedItem]:
    """Return contexts and continuations as prompts and answers, cut from the left to the context window."""
    items = []
    for request, context, continuation in requests:
        if not continuation:
            raise PromptError(f"the continuation of {request!r} has no tokens", fix="let the task's targets be texts")
        room = window + 1 - len(continuation)  # the last token is predicted, not read
        if room < 1:
            raise PromptError(f"a continuation has {len(continuation)} tokens", fix=f"the model reads {window}")
        if len(context) > room:
            _warn_cut(len(context), room)
        prompt: Tokens = tuple(context[-room:])
        items.append(ForcedItem(prompt, (tuple(continuation),)))
    return items


def _warn_cut(tokens: int, room: int) -> None:
    warnings.warn(
        f"a context of {tokens} tokens was cut from the left to {room}, to fit into the model's window", stacklevel=3
    )


def _check_everywhere(steering: Steering) -> None:
    """Refuse token scopes and conditions."""
    for term in steering.terms:
        if not term.tokens.is_all or term.condition is not None:
            raise SteeringError(
                f"{term}: token scopes and conditions act while answers are written, and this task scores given ones",
                fix="drop the scope or condition, or choose tasks that generate",
            )


def _check_cache(stored: Any, *, owner: str) -> None:
    """Refuse a file of responses that another model or steering gave: the harness files them by the request alone."""
    if stored is None:
        return
    if stored.get(MARK, owner) != owner or (MARK not in stored and len(stored)):
        raise SteeringError(
            f"the cache has responses of {stored.get(MARK, 'another model')}, not of {owner}",
            fix="give use_cache another file for each model and steering",
        )
    stored[MARK] = owner


def _settings(given: Mapping[str, Any]) -> Sampling:
    """Return the engine's settings; refuse those that it does not have and that would change the answer."""
    samples = bool(given.get("do_sample"))
    for name, value in given.items():
        if name in USED or value in WITHOUT_EFFECT.get(name, (None,)) or (name in OF_SAMPLING and not samples):
            continue
        raise PromptError(f"a task asks for {name}={value!r}, which trimtab does not have", fix="leave it out")

    def number(name: str, otherwise: float) -> float:
        value = given.get(name)
        return otherwise if value is None else float(value)

    return Sampling(
        max_new_tokens=int(given["max_gen_toks"]),
        temperature=number("temperature", 1.0) if samples else 0.0,
        top_p=number("top_p", 1.0) if samples else 1.0,  # a harness's greedy tasks may have any value here
        top_k=max(int(number("top_k", 0)), 0) if samples else 0,
        min_p=number("min_p", 0.0) if samples else 0.0,
        presence_penalty=number("presence_penalty", 0.0),
        frequency_penalty=number("frequency_penalty", 0.0),
        repetition_penalty=number("repetition_penalty", 1.0),
        stop=[stop for stop in given["until"] if stop],
    )


def _rounds(settings: Sampling) -> Iterator[int]:
    limit = FIRST_ROUND
    while settings.temperature == 0 and settings.stop and limit * GROWTH <= settings.max_new_tokens:
        yield limit
        limit *= GROWTH
    yield settings.max_new_tokens
