"""``/v1/steering/check`` and ``/v1/read``: what a steering would do, and what texts read like."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from trimtab.engines.protocol import Prompt
from trimtab.errors import SteeringError, TrimtabError
from trimtab.server.errors import RequestError
from trimtab.server.fields import ChatMessage, Fields, Number, SteeringJson, SteeringText, Text
from trimtab.server.presets import Name
from trimtab.server.prompts import chat_prompt
from trimtab.server.routes.vectors import SafeReply, safe_json
from trimtab.server.serving import Served, Serving
from trimtab.server.settings import MAX_MESSAGES, MAX_READINGS, MAX_TERMS
from trimtab.steering import Steering, Term
from trimtab.steering.budget import WARN_ABOVE, cosines, predicted_kl, predicted_kl_or_none
from trimtab.steering.operators import takes_amount

router = APIRouter(tags=["steering"])
MAX_TEXTS = 32
_COLUMN = re.compile(r"at column ([0-9]+)")


class CheckFields(Fields):
    """A steering to check."""

    steering: SteeringText | SteeringJson
    normalize: Annotated[Number, Field(gt=0, le=10)] | None = Field(
        default=None, description="KL in nats per token to which it is rescaled."
    )


class TermReply(BaseModel):
    """One term of a steering."""

    text: str
    vector: str
    strength: float | None
    coefficient: float | None
    operator: str
    kl: float | None = Field(description="Predicted KL of this term alone, in nats per token; None if not known.")
    safe: SafeReply | None
    warning: str | None = Field(description="By what it exceeds the safe range, and what breaks there.")


class MistakeReply(BaseModel):
    """Why a text is no steering."""

    what: str
    fix: str | None
    code: str
    column: int | None = Field(description="Column of the mistake in the text form, from 1.")


class CheckReply(BaseModel):
    """A steering, read as a request would be; or the mistake in it."""

    ok: bool
    error: MistakeReply | None = None
    text: str | None = Field(default=None, description="Canonical text form.")
    steering: dict[str, Any] | None = Field(default=None, description="JSON form.")
    kl: float | None = Field(default=None, description="Predicted KL of all terms together, in nats per token.")
    terms: list[TermReply] = []
    cosines: list[list[float]] | None = Field(
        default=None, description="Cosines between what terms add; None unless all of them add or rotate."
    )
    warnings: list[str] = []


class ReadFields(Fields):
    """Texts to read along vectors."""

    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)] | None = Field(
        default=None, description="Users' messages, or bare texts."
    )
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)] | None = Field(
        default=None, description="Or one chat."
    )
    vectors: Annotated[list[Name], Field(min_length=1, max_length=MAX_READINGS)]
    raw: bool = Field(default=False, description="Whether the input is bare text.")
    layers: bool = Field(default=False, description="Whether the readings of every layer and token are wanted, too.")


class VectorReadingReply(BaseModel):
    """Readings of one text along one vector."""

    name: str
    score: float | None = Field(description="Of the whole text, in standard deviations of neutral texts.")
    pool: str
    reading_layers: list[int]
    layers: list[int]
    token_scores: list[float] | None
    layer_scores: list[float] | None
    z: list[list[float]] | None = Field(default=None, description="By layer and token.")


class ReadingReply(BaseModel):
    """Readings of one text."""

    object: Literal["reading"] = "reading"
    text: str
    tokens: list[int]
    pieces: list[str]
    words: list[bool] = Field(description="Whether each token counts for scores.")
    vectors: list[VectorReadingReply]


class ReadReply(BaseModel):
    """Readings of each text."""

    object: Literal["list"] = "list"
    data: list[ReadingReply]


@router.post("/v1/steering/check")
def check_steering(body: CheckFields, serving: Served) -> CheckReply:
    """Say what a steering is and what it is predicted to spend; a mistake in it is an answer, too."""
    given: Any = body.steering
    try:
        steering = Steering.of(given, find=serving.vectors.find, paths=False)
        if body.normalize is not None and steering.terms:
            steering = steering.normalized(body.normalize)
        if len(steering.terms) > MAX_TERMS:
            raise SteeringError(f"it has {len(steering.terms)} terms", fix=f"give at most {MAX_TERMS}")
        steering.compile(serving.engine.info)
        return _checked(steering)
    except TrimtabError as error:
        column = _COLUMN.search(error.problem)
        mistake = MistakeReply(
            what=error.problem, fix=error.fix, code=error.code, column=int(column[1]) if column else None
        )
        return CheckReply(ok=False, error=mistake)


@router.post("/v1/read")
async def read_texts(body: ReadFields, serving: Served) -> ReadReply:
    """Read texts along vectors: a score for each text, and one for each token."""
    return await asyncio.to_thread(_read, body, serving)


def _checked(steering: Steering) -> CheckReply:
    terms = steering.terms
    kl = predicted_kl_or_none(terms)
    replies = [_term(term) for term in terms]
    warnings = [f"{each.text} is {each.warning}" for each in replies if each.warning is not None]
    if kl is not None and kl > WARN_ABOVE:
        warnings.append(f"{kl:.2f} nats per token are predicted; beyond {WARN_ABOVE:g} the text begins to break down")
    adding = bool(terms) and all(takes_amount(term.operator) and _has_unit(term) for term in terms)
    return CheckReply(
        ok=True,
        text=str(steering),
        steering=steering.to_json(),
        kl=kl,
        terms=replies,
        cosines=cosines(terms).tolist() if adding else None,
        warnings=warnings,
    )


def _has_unit(term: Term) -> bool:
    return predicted_kl_or_none((term,)) is not None


def _term(term: Term) -> TermReply:
    safe = safe_json(term.vector)
    return TermReply(
        text=str(term),
        vector=term.name,
        strength=term.strength,
        coefficient=term.coefficient,
        operator=type(term.operator).__name__.lower(),
        kl=predicted_kl((term,)) if _has_unit(term) else None,
        safe=None if safe is None else SafeReply(**safe),
        warning=None if term.beyond_safe is None else str(term.beyond_safe),
    )


def _read(body: ReadFields, serving: Serving) -> ReadReply:
    vectors = [serving.vectors.find(name) for name in body.vectors]
    readings = []
    for prompt in _prompts(body):
        reading = serving.engine.read(prompt, vectors, raw=body.raw)
        given = reading.to_json()
        for name, each in zip(body.vectors, given["vectors"], strict=True):
            each["name"] = name  # as the request has called it
            if not body.layers:
                del each["z"]
        readings.append(ReadingReply(**given))
    return ReadReply(data=readings)


def _prompts(body: ReadFields) -> list[Prompt]:
    if (body.input is None) == (body.messages is None) or (body.raw and body.messages is not None):
        raise RequestError("there is not exactly one thing to read", fix="give input, or messages without raw")
    if body.messages is not None:
        return [chat_prompt(body.messages)]
    assert body.input is not None
    return [body.input] if isinstance(body.input, str) else list(body.input)
