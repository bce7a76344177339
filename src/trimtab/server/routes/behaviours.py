"""``/v1/behaviours`` and ``/v1/pairs``: from two poles to what a training reads."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints

from trimtab.behaviours import Behaviour, zoo_names
from trimtab.behaviours.draft import draft
from trimtab.behaviours.lint import lint_words
from trimtab.behaviours.pairs import ContrastivePair, build_pairs
from trimtab.errors import BehaviourError
from trimtab.server.fields import Fields
from trimtab.server.jobs import Toml, behaviour_of
from trimtab.server.presets import Name
from trimtab.server.serving import Served

router = APIRouter(tags=["behaviours"])
MAX_PHRASINGS = 16
MAX_PAIRS_SHOWN = 32
Phrasing = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
Phrasings = Annotated[list[Phrasing], Field(min_length=1, max_length=MAX_PHRASINGS)]


class BehaviourReply(BaseModel):
    """A behaviour in short."""

    object: Literal["behaviour"] = "behaviour"
    name: str
    description: str
    positive: str
    negative: str
    trained: bool = Field(description="Whether there is a vector of this name for the model.")


class BehaviourList(BaseModel):
    """Behaviours of the zoo."""

    object: Literal["list"] = "list"
    data: list[BehaviourReply]


class DraftFields(Fields):
    """Two poles, as they fit after "You are"."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    positive: Phrasings
    negative: Phrasings


class DraftReply(BaseModel):
    """Draft of a behaviour's file."""

    name: str
    toml: str


class BehaviourFields(Fields):
    """A behaviour of the zoo, or the text of a behaviour's file."""

    behaviour: Name | None = None
    toml: Toml | None = None


class FindingReply(BaseModel):
    """Possible mistake in a behaviour."""

    level: Literal["error", "warning", "note"]
    where: str
    problem: str
    fix: str


class LintReply(BaseModel):
    """Possible mistakes in a behaviour, the gravest first."""

    ok: bool
    name: str | None
    findings: list[FindingReply]


class PreviewFields(BehaviourFields):
    """A behaviour, and how many of its pairs are wanted."""

    count: Annotated[int, Field(ge=1, le=MAX_PAIRS_SHOWN)] = 3


class PairReply(BaseModel):
    """A contrastive pair as the model reads it."""

    positive: str
    negative: str


class PreviewReply(BaseModel):
    """Pairs of a behaviour, evenly taken from all of them."""

    name: str
    total: int
    pairs: list[PairReply]


@router.get("/v1/behaviours")
def list_behaviours(serving: Served) -> BehaviourList:
    """List the behaviours of the zoo."""
    trained = serving.vectors.vectors
    return BehaviourList(
        data=[
            BehaviourReply(
                name=each.name,
                description=each.description,
                positive=each.positive.label,
                negative=each.negative.label,
                trained=each.name in trained,
            )
            for each in map(Behaviour.load, zoo_names())
        ]
    )


@router.post("/v1/behaviours/draft")
def draft_behaviour(body: DraftFields) -> DraftReply:
    """Write the text of a behaviour's file from a few words for each pole."""
    return DraftReply(name=body.name, toml=draft(body.name, body.positive, body.negative))


@router.post("/v1/behaviours/lint")
def lint_behaviour(body: BehaviourFields) -> LintReply:
    """Check the words of a behaviour; a text that is none is an error among the findings."""
    try:
        behaviour = behaviour_of(body.behaviour, body.toml)
    except BehaviourError as error:
        finding = FindingReply(level="error", where="toml", problem=error.problem, fix=error.fix or "")
        return LintReply(ok=False, name=None, findings=[finding])
    findings = [FindingReply(**asdict(each)) for each in lint_words(behaviour)]
    return LintReply(ok=all(each.level != "error" for each in findings), name=behaviour.name, findings=findings)


@router.post("/v1/pairs/preview")
async def preview_pairs(body: PreviewFields, serving: Served) -> PreviewReply:
    """Return pairs of a behaviour as the model will read them."""
    behaviour = behaviour_of(body.behaviour, body.toml)
    pairs = await asyncio.to_thread(build_pairs, behaviour, serving.engine)
    count = min(body.count, len(pairs))
    shown: list[ContrastivePair] = [pairs[n * len(pairs) // count] for n in range(count)]
    return PreviewReply(
        name=behaviour.name,
        total=len(pairs),
        pairs=[PairReply(positive=each.positive, negative=each.negative) for each in shown],
    )
