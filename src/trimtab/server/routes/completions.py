"""``/v1/completions``: continuations of bare text."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from itertools import accumulate
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse, Response

from trimtab.engines.protocol import Completion, StreamedToken, TokenLogprob
from trimtab.server.answers import Answers, Asked, batches, begin, completed, request_sampling
from trimtab.server.constraints import request_constraint
from trimtab.server.fields import CompletionFields
from trimtab.server.presets import with_defaults
from trimtab.server.replies import TextCompletion, streamed_or
from trimtab.server.serving import Served
from trimtab.server.shapes import readings_json, trimtab_json, usage_json
from trimtab.server.sse import DONE, event, event_stream
from trimtab.server.steering import HEADER, request_readings, request_steering

router = APIRouter(tags=["completions"])
ANSWER_TOKENS = 16  # of requests that give no upper bound, as in OpenAI's API


@router.post("/v1/completions", response_model=None, responses=streamed_or(TextCompletion))
async def create_completion(
    body: CompletionFields,
    request: Request,
    serving: Served,
    steering: Annotated[str | None, Header(alias=HEADER)] = None,
) -> Response:
    """Continue one text, or each of several."""
    preset = serving.preset_of(body.model)
    body = with_defaults(body, preset)
    asked = Asked(
        prompts=(body.prompt,) if isinstance(body.prompt, str) else tuple(body.prompt),
        raw=True,
        sampling=request_sampling(
            body, serving.settings, max_tokens=body.max_tokens or ANSWER_TOKENS, logprobs=body.logprobs
        ),
        n=body.n or 1,
        steering=request_steering(body, steering, preset, serving.vectors),
        constraint=request_constraint(body, steer=body.steer_constrained),
        readings=request_readings(body, serving.vectors),
        measure_kl=body.kl,
        salt=body.cache_salt or "",
    )
    answers = await begin(serving, asked)
    head = {
        "id": f"cmpl-{uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": body.model,
    }
    if body.stream:
        usage = bool(body.stream_options and body.stream_options.include_usage)
        return event_stream(_stream(answers, head, body, include_usage=usage), answers)
    completions = await completed(answers, request)
    return JSONResponse(
        {
            **head,
            "choices": [_choice(number, each, body) for number, each in enumerate(completions)],
            "usage": usage_json(answers.prompt_tokens, completions),
            "system_fingerprint": None,
            "trimtab": trimtab_json(completions),
        }
    )


def _choice(number: int, completion: Completion, body: CompletionFields) -> dict[str, Any]:
    return {
        "index": number,
        "text": completion.text + _stop_text(completion, body),
        "logprobs": None if completion.logprobs is None else _logprobs(completion.logprobs, 0),
        "finish_reason": completion.finish_reason,
    }


def _stop_text(completion: Completion, body: CompletionFields) -> str:
    stopped = completion.stopped_by
    return stopped if body.include_stop_str_in_output and isinstance(stopped, str) else ""


def _logprobs(tokens: Sequence[TokenLogprob], start: int) -> dict[str, Any]:
    """Return log-probabilities in the shape of completions; ``start`` characters were before."""
    texts = [token.text for token in tokens]
    return {
        "tokens": texts,
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{other.text: other.logprob for other in token.alternatives} for token in tokens],
        "text_offset": list(accumulate(map(len, texts), initial=start))[:-1],
    }


async def _stream(
    answers: Answers, head: dict[str, Any], body: CompletionFields, *, include_usage: bool
) -> AsyncIterator[bytes]:
    usage: dict[str, Any] = {"usage": None} if include_usage else {}
    completions: dict[int, Completion] = {}
    lengths = [0] * len(answers.generations)  # characters of tokens with log-probabilities

    def chunk(
        number: int, text: str, more: dict[str, Any], *, reason: str | None = None, logprobs: Any = None
    ) -> bytes:
        choice = {"index": number, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return event({**head, "choices": [choice], **usage, **more})

    async for events in batches(answers):
        written = []
        for number, each in events:
            if isinstance(each, StreamedToken):
                logprobs = None
                if each.logprob is not None:
                    logprobs = _logprobs([each.logprob], lengths[number])
                    lengths[number] += len(each.logprob.text)
                if each.text or logprobs or each.readings:
                    more = {"trimtab": readings_json([each])} if each.readings else {}
                    written.append(chunk(number, each.text, more, logprobs=logprobs))
                continue
            completions[number] = each
            summary = {}
            if len(completions) == len(answers.generations):
                summary = {"trimtab": trimtab_json([completions[n] for n in range(len(completions))])}
            written.append(chunk(number, _stop_text(each, body), summary, reason=each.finish_reason))
        if written:
            yield b"".join(written)
    if include_usage:
        yield event({**head, "choices": [], "usage": usage_json(answers.prompt_tokens, list(completions.values()))})
    yield DONE
