"""``/v1/presets``: presets and flows, which requests name as models."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel

from trimtab.server.errors import RequestError
from trimtab.server.preset_index import PresetFile, PresetIndex
from trimtab.server.presets import PresetFields
from trimtab.server.serving import Served, Serving
from trimtab.server.vectors import NAME

router = APIRouter(tags=["presets"])
PresetName = Annotated[str, Path(pattern=f"^{NAME.pattern}$")]


class PresetReply(BaseModel):
    """A preset with its fields."""

    object: str = "preset"
    name: str
    model: str  # the name by which requests ask for it
    shipped: bool
    usable: bool
    problem: str | None
    preset: dict[str, Any] | None  # None if its file was malformed from the beginning


class PresetList(BaseModel):
    """All presets."""

    object: str = "list"
    data: list[PresetReply]


class DeletedReply(BaseModel):
    """What was deleted."""

    id: str
    object: str
    deleted: bool = True


@router.get("/v1/presets")
async def list_presets(serving: Served) -> PresetList:
    """List presets and flows, those that are not usable included."""
    index = index_of(serving)
    return PresetList(data=[_reply(serving, name, file) for name, file in sorted(index.files.items())])


@router.get("/v1/presets/{name}")
async def get_preset(name: PresetName, serving: Served) -> PresetReply:
    """Return one preset."""
    return _reply(serving, name, index_of(serving).file(name))


@router.put("/v1/presets/{name}")
async def put_preset(name: PresetName, body: PresetFields, serving: Served) -> PresetReply:
    """Write a preset; it is served at once, and replaces another one of its name."""
    file = await asyncio.to_thread(index_of(serving).put, name, body)
    return _reply(serving, name, file)


@router.delete("/v1/presets/{name}")
async def delete_preset(name: PresetName, serving: Served) -> DeletedReply:
    """Delete a preset; those that come with trimtab stay."""
    await asyncio.to_thread(index_of(serving).delete, name)
    return DeletedReply(id=name, object="preset.deleted")


def index_of(serving: Serving) -> PresetIndex:
    """Return the index of a server's presets.

    Raises:
        RequestError: It has none.
    """
    if serving.preset_index is None:
        raise RequestError("this server has fixed presets", fix="edit them where it is started", status=409)
    return serving.preset_index


def _reply(serving: Serving, name: str, file: PresetFile) -> PresetReply:
    return PresetReply(
        name=name,
        model=f"{serving.settings.model}:{name}",
        shipped=file.shipped,
        usable=name in serving.presets,
        problem=file.problem,
        preset=None if file.fields is None else file.fields.model_dump(exclude_unset=True, by_alias=True),
    )
