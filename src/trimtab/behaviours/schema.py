"""What a behaviour file may say: the pydantic models that validate it, and the JSON Schema made from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag, model_validator

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]

TEXT_FORM, LIST_FORM = "<text>", "<list>"


def _form(value: object) -> str | None:
    """Which form a field has that may be a text or a list, so that an error speaks of that form alone."""
    if isinstance(value, str):
        return TEXT_FORM
    return LIST_FORM if isinstance(value, list) else None


def _text_or_list(expected: str) -> Discriminator:
    return Discriminator(_form, custom_error_type="form", custom_error_message=f"Input should be {expected}")


DEFAULT_TEMPLATES: tuple[dict[str, str], ...] = (
    {"user": "Act as if you are {persona}."},
    {"system": "You are {persona}. Everything you say shows it.", "user": "Say something."},
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PoleFile(_Strict):
    """One end of the axis."""

    label: Text = Field(description="One word or two for this pole, used in tables.")
    personas: list[Text] = Field(
        default_factory=list,
        description="Phrasings of the pole that fit into the templates' {persona}; several are better than one.",
    )


class TemplateFile(_Strict):
    """How a persona is put to the model: a system message, a user message, or both."""

    system: Text | None = Field(default=None, description="System message; {persona} is replaced.")
    user: Text | None = Field(default=None, description="User message; {persona} is replaced.")

    @model_validator(mode="after")
    def _says_the_persona(self) -> TemplateFile:
        if "{persona}" not in f"{self.system}{self.user}":
            raise ValueError("a template must contain {persona} in its system or user message")
        return self


class MessageFile(_Strict):
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


Chat = Annotated[
    Annotated[Text, Tag(TEXT_FORM)] | Annotated[list[MessageFile], Field(min_length=1), Tag(LIST_FORM)],
    _text_or_list("a user message or a list of messages"),
]


class PairFile(_Strict):
    """A contrastive pair given outright; a string is a user message, a list is a chat."""

    positive: Chat
    negative: Chat


class EvaluationFile(_Strict):
    """How the behaviour's effect is measured."""

    prompts: list[Text] = Field(
        default_factory=list,
        description="User messages that take the place of the built-in held-out prompts.",
    )


class BehaviourFile(_Strict):
    """A behaviour: a named axis with a positive and a negative pole."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="trimtab behaviour")

    name: Slug = Field(description="Lower-case letters, digits, '-' and '_'.")
    description: str = Field(default="", description="What changes along this axis, in one sentence.")
    positive: PoleFile
    negative: PoleFile
    templates: Annotated[list[TemplateFile], Field(min_length=1)] = Field(
        default_factory=lambda: [TemplateFile(**template) for template in DEFAULT_TEMPLATES],
        description="Every persona is put to the model in each of these ways.",
    )
    suffixes: Annotated[
        Annotated[Literal["builtin"] | str, Tag(TEXT_FORM)] | Annotated[list[Text], Tag(LIST_FORM)],
        _text_or_list("'builtin', the name of a text file, or a list of texts"),
    ] = Field(
        default="builtin",
        description="Openings of the answer: 'builtin', a list, or a text file beside this one (one a line).",
    )
    pairs: (
        Annotated[
            Annotated[str, Tag(TEXT_FORM)] | Annotated[list[PairFile], Tag(LIST_FORM)],
            _text_or_list("the name of a JSONL file or a list of pairs"),
        ]
        | None
    ) = Field(
        default=None,
        description="Pairs given outright, trained on instead of personas: a list, or a JSONL file beside this one.",
    )
    evaluation: EvaluationFile = Field(default_factory=EvaluationFile)


def behaviour_json_schema() -> dict[str, Any]:
    """The JSON Schema of a behaviour file, for editors and other tools."""
    schema = BehaviourFile.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
