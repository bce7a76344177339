"""``/v1/info``: what this server is and can do."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from trimtab.defaults import VERSION
from trimtab.server import settings as limits
from trimtab.server.serving import Served
from trimtab.server.uploads import max_bytes

router = APIRouter(tags=["info"])
LONG_JOBS = ("train quick", "train default", "train thorough", "distill")
PACKAGES = ("torch", "transformers", "numpy", "fastapi", "llguidance")


class ModelInfoReply(BaseModel):
    """The model."""

    name: str
    served_as: str
    architecture: str
    layers: int
    hidden_size: int
    context_window: int | None
    device: str | None
    thinks: bool


class CapabilitiesReply(BaseModel):
    """What can be done with the model."""

    predicts: bool
    reads_every_token: bool
    gradients: bool = Field(description="Whether system prompts can be distilled, and directions refined.")
    jobs: bool
    edits_presets: bool


class LimitsReply(BaseModel):
    """Upper bounds on requests."""

    answers_to_a_prompt: int
    prompts: int
    answers: int
    messages: int
    tools: int
    readings: int
    stop_strings: int
    answer_tokens: int
    body_bytes: int
    vector_bytes: int
    deadline_seconds: float | None


class InfoReply(BaseModel):
    """This server."""

    object: Literal["info"] = "info"
    version: str
    model: ModelInfoReply
    capabilities: CapabilitiesReply
    limits: LimitsReply
    versions: dict[str, str]
    vectors: int
    presets: int
    expected_seconds: dict[str, float] = Field(
        description="About how long jobs take: 'train quick', 'train default', 'train thorough' and 'distill'."
    )


@router.get("/v1/info")
def get_info(serving: Served) -> InfoReply:
    """Return the model, what it can do, versions and limits."""
    info, able, settings = serving.engine.info, serving.engine.capabilities, serving.settings
    return InfoReply(
        version=VERSION,
        model=ModelInfoReply(
            name=info.name,
            served_as=settings.model,
            architecture=info.architecture,
            layers=info.layers,
            hidden_size=info.hidden_size,
            context_window=able.context_window,
            device=getattr(serving.engine, "device", None),  # not every engine has one
            thinks=serving.engine.thinking_markers is not None,
        ),
        capabilities=CapabilitiesReply(
            predicts=able.predicts,
            reads_every_token=able.reads_every_token,
            gradients=able.gradients,
            jobs=serving.jobs is not None,
            edits_presets=serving.preset_index is not None,
        ),
        limits=LimitsReply(
            answers_to_a_prompt=limits.MAX_N,
            prompts=limits.MAX_PROMPTS,
            answers=limits.MAX_ANSWERS,
            messages=limits.MAX_MESSAGES,
            tools=limits.MAX_TOOLS,
            readings=limits.MAX_READINGS,
            stop_strings=limits.MAX_STOPS,
            answer_tokens=settings.max_answer_tokens,
            body_bytes=settings.max_body_bytes,
            vector_bytes=max_bytes(info),
            deadline_seconds=settings.deadline,
        ),
        versions={"python": platform.python_version(), **_versions()},
        vectors=len(serving.vectors.vectors),
        presets=len(serving.presets),
        expected_seconds={}
        if serving.jobs is None
        else {kind: round(sum(serving.jobs.expected(kind).values()), 1) for kind in LONG_JOBS},
    )


def _versions() -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
