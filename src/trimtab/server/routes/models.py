"""``/v1/models``: the model and its presets."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from trimtab.server.presets import Preset
from trimtab.server.replies import ModelList, ModelReply
from trimtab.server.serving import Served, Serving

router = APIRouter(tags=["models"])


@router.get("/v1/models", response_model=None, responses={200: {"model": ModelList}})
async def list_models(serving: Served) -> dict[str, Any]:
    """List the model, then its presets."""
    base = serving.settings.model
    listed = {f"{base}:{name}": preset for name, preset in serving.presets.items() if not preset.unlisted}
    models = {base: Preset(), **listed}
    return {"object": "list", "data": [_model_json(serving, name, preset) for name, preset in models.items()]}


@router.get("/v1/models/{name:path}", response_model=None, responses={200: {"model": ModelReply}})
async def get_model(name: str, serving: Served) -> dict[str, Any]:
    """Return one model."""
    return _model_json(serving, name, serving.preset_of(name))


def _model_json(serving: Serving, name: str, preset: Preset) -> dict[str, Any]:
    base = serving.settings.model
    return {
        "id": name,
        "object": "model",
        "created": serving.created,
        "owned_by": "trimtab",
        "root": base,
        "parent": base if ":" in name else None,
        "max_model_len": serving.engine.capabilities.context_window,
        "metadata": {
            **preset.metadata,
            "steering": str(preset.steering),
            "system": preset.system,
            **({} if preset.flow is None else {"stages": {n: each.preset for n, each in preset.flow.stages.items()}}),
            **({"defaults": dict(preset.defaults)} if preset.defaults else {}),
        },
    }
