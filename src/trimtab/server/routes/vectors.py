"""``/v1/vectors``: the vectors that requests may name, and their files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from trimtab.errors import VectorError
from trimtab.evaluation.cards import Card, card_json_values, read_card, zoo_cards
from trimtab.evaluation.records import Word
from trimtab.server.errors import RequestError
from trimtab.server.fields import Fields
from trimtab.server.routes.presets import DeletedReply
from trimtab.server.serving import Served, Serving
from trimtab.server.uploads import checked_upload, max_bytes, receive
from trimtab.server.vectors import NAME, checked_name
from trimtab.vectors import ControlVector, WrittenEffect
from trimtab.vectors.records import Header

router = APIRouter(tags=["vectors"])
OCTETS = "application/octet-stream"
VectorName = Annotated[str, Path(pattern=f"^{NAME.pattern}$")]


class SafeReply(BaseModel):
    """Strengths inside which text holds together."""

    low: float
    high: float
    why: str


class VectorReply(BaseModel):
    """A vector in short."""

    object: str = "vector"
    name: str
    behaviour: str
    own: bool = Field(description="Whether it is in the server's folder, where it may be deleted.")
    poles: dict[str, str] | None = Field(description="Labels of the poles, by sign.")
    verdict: Word | None = Field(description="Of the card, in a word; null until it is evaluated.")
    times_prompt: float | None = Field(description="Written effect at the default strength, in times the prompt.")
    default_strength: float | None
    safe: SafeReply | None
    method: str
    effort: str
    layers: list[int]
    created: str


class VectorDetails(VectorReply):
    """A vector with its card."""

    card: Card | None = Field(description="What an evaluation has measured.")
    written: list[WrittenEffect] = Field(
        description="Effects on written answers that its training has measured: at the default strength, at the ends."
    )
    header: Header = Field(description="Everything in the vector's file but its directions.")


class VectorList(BaseModel):
    """All vectors of the model."""

    object: str = "list"
    data: list[VectorReply]
    unusable: dict[str, str] = Field(description="Why files are left out, by name.")


class DeletedVectorReply(DeletedReply):
    """A deleted vector."""

    undo: str = Field(description="What restores it.")


class RestoreFields(Fields):
    """Which deleted vector is to be restored."""

    undo: Annotated[str, Field(pattern=r"^[0-9a-f-]{1,64}$")]


@router.get("/v1/vectors")
async def list_vectors(serving: Served) -> VectorList:
    """List the vectors that requests may name."""
    found = sorted(serving.vectors.vectors.items())
    return VectorList(
        data=[_reply(serving, name, vector) for name, vector in found],
        unusable=dict(serving.vectors.problems()),
    )


@router.get("/v1/vectors/{name}")
async def get_vector(name: VectorName, serving: Served) -> VectorDetails:
    """Return one vector with its card and safe range."""
    vector = _found(serving, name)
    card = _card_of(serving, name, vector)
    values = {
        **_short(serving, name, vector, card),
        "card": None if card is None else card_json_values(card),
        "written": _written(vector),
        "header": vector.describe(),
    }
    return VectorDetails.model_validate(values)


@router.get(
    "/v1/vectors/{name}/file",
    response_class=FileResponse,
    responses={200: {"content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}}},
)
async def get_vector_file(name: VectorName, serving: Served) -> FileResponse:
    """Download a vector's file."""
    _found(serving, name)
    return FileResponse(serving.vectors.file(name), media_type=OCTETS, filename=f"{name}.safetensors")


@router.put(
    "/v1/vectors/{name}",
    openapi_extra={
        "requestBody": {"required": True, "content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}}
    },
)
async def put_vector(
    name: VectorName,
    request: Request,
    serving: Served,
    overwrite: Annotated[bool, Query(description="Whether another one of its name is replaced.")] = False,
) -> VectorReply:
    """Upload a vector's file, as the bare body; it is served at once."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != OCTETS:
        raise RequestError(f"the body is {kind[:64] or 'of no type'}", fix=f"send it as {OCTETS}", status=415)
    checked_name(name)
    limit, length = max_bytes(serving.engine.info), request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise RequestError(f"the file has more than {limit:,} bytes", fix="upload a vector file", status=413)
    path = await receive(request.stream(), serving.vectors.folder, limit=limit)
    try:
        vector = await asyncio.to_thread(checked_upload, path, serving.engine.info)
        await asyncio.to_thread(serving.vectors.put, name, path, overwrite=overwrite)
    finally:
        path.unlink(missing_ok=True)
    return _reply(serving, name, vector)


@router.delete("/v1/vectors/{name}")
async def delete_vector(name: VectorName, serving: Served) -> DeletedVectorReply:
    """Delete a vector of the server's folder; the answer has what restores it."""
    if name not in serving.vectors.problems():
        _found(serving, name)
    undo = await asyncio.to_thread(serving.vectors.delete, name)
    return DeletedVectorReply(id=name, object="vector.deleted", undo=undo)


@router.post("/v1/vectors/{name}/restore")
async def restore_vector(name: VectorName, body: RestoreFields, serving: Served) -> VectorReply:
    """Restore a deleted vector."""
    await asyncio.to_thread(serving.vectors.restore, name, body.undo)
    return _reply(serving, name, _found(serving, name))


def safe_json(vector: ControlVector) -> dict[str, Any] | None:
    """Return a vector's safe range, from its file or its card; None if it was not measured."""
    safe = vector.safe
    if safe is None and (card := _zoo_card_of(vector)) is not None:
        safe = card.safe
    return None if safe is None else {"low": safe.low, "high": safe.high, "why": str(safe)}


def _found(serving: Serving, name: str) -> ControlVector:
    """Return a vector.

    Raises:
        RequestError: There is none of this name.
    """
    try:
        return serving.vectors.find(name)
    except VectorError as error:
        raise RequestError(error.problem, fix=error.fix, status=404, code="not_found") from None


def _reply(serving: Serving, name: str, vector: ControlVector) -> VectorReply:
    return VectorReply(**_short(serving, name, vector, _card_of(serving, name, vector)))


def _short(serving: Serving, name: str, vector: ControlVector, card: Card | None) -> dict[str, Any]:
    written = _written(vector)
    times = written[0].times_prompt if written else None
    return {
        "name": name,
        "behaviour": vector.behaviour.name,
        "own": serving.vectors.is_own(name),
        "poles": _poles(vector, card),
        "verdict": None if card is None else card.word,
        "times_prompt": (None if times is None else times.value) if card is None else card.times_prompt("default"),
        "default_strength": _default_strength(vector),
        "safe": safe_json(vector),
        "method": vector.method,
        "effort": vector.effort,
        "layers": list(vector.layers),
        "created": vector.created,
    }


def _default_strength(vector: ControlVector) -> float | None:
    defaults = vector.default_strengths if vector.scale else {}
    return next((defaults[sign] for sign in ("+", "-") if defaults.get(sign)), None)


def _poles(vector: ControlVector, card: Card | None) -> dict[str, str] | None:
    """Return the labels of a vector's poles, by sign; None where they are not known."""
    made_from = vector.behaviour
    if made_from.positive and made_from.negative:
        return {"+": made_from.positive, "-": made_from.negative}
    return None if card is None else {"+": card.positive, "-": card.negative}


def _written(vector: ControlVector) -> tuple[WrittenEffect, ...]:
    """Return the effects on written answers that the training of a vector has measured."""
    calibration = vector.calibration
    return () if calibration is None or calibration.held_out is None else calibration.held_out.written


def _card_of(serving: Serving, name: str, vector: ControlVector) -> Card | None:
    """Return the card of a vector that was evaluated, here or for the zoo; None of any other."""
    measured = None if serving.jobs is None else serving.jobs.card(name, vector)
    return _zoo_card_of(vector) if measured is None else read_card(json.dumps(measured), where=f"the card of {name!r}")


def _zoo_card_of(vector: ControlVector) -> Card | None:
    """Return the card of a zoo behaviour's vector that was measured; None of any other vector."""
    card = _cards().get(vector.behaviour.name)
    if card is None or card.digest != vector.behaviour.digest or card.model != vector.model.name:
        return None
    return card


@cache
def _cards() -> Mapping[str, Card]:
    return zoo_cards()
