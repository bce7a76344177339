"""Validate behaviour files: pydantic models, and the JSON Schema made from them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)


@dataclass(frozen=True)
class PoleKeywords:
    """Words that texts of the two poles are expected to contain; see ``keyword_pattern``."""

    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()


def keyword_pattern(keyword: str) -> re.Pattern[str]:
    """Return the pattern of a keyword, in any case: a whole word or phrase, or a regular expression ``/like this/``.

    Raises:
        re.error: The expression between the slashes is not one.

    Example:
        >>> [bool(keyword_pattern("glad").search(text)) for text in ("Glad to help", "a gladiator")]
        [True, False]
        >>> bool(keyword_pattern("/glad|joy(ful)?/").search("a gladiator"))
        True
    """
    if len(keyword) > 2 and keyword.startswith("/") and keyword.endswith("/"):
        return re.compile(keyword[1:-1], re.IGNORECASE)
    phrase = r"\s+".join(map(re.escape, keyword.split()))
    return re.compile(rf"(?<!\w){phrase}(?!\w)", re.IGNORECASE)


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]

TEXT_FORM, LIST_FORM = "<text>", "<list>"


def _form(value: object) -> str | None:
    """Return the form of a field that may be a text or a list, so that an error names that form alone."""
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
    """Form in which the model reads a persona: a system message, a user message, or both."""

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


class ChoiceFile(_Strict):
    """A question with an answer of each pole to choose from."""

    question: Text
    positive: Text = Field(description="The answer of the positive pole, as the model would write it.")
    negative: Text = Field(description="The answer of the negative pole.")

    @model_validator(mode="after")
    def _answers_differ(self) -> ChoiceFile:
        if self.positive == self.negative:
            raise ValueError("the answers must differ")
        return self


def _matchable(keyword: str) -> str:
    try:
        keyword_pattern(keyword)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return keyword


Keyword = Annotated[Text, AfterValidator(_matchable)]


class KeywordsFile(_Strict):
    """Words that answers of each pole are expected to contain."""

    positive: list[Keyword] = Field(
        default_factory=list,
        description="Words or phrases of the positive pole, in any case; or /regular expressions/.",
    )
    negative: list[Keyword] = Field(default_factory=list, description="The same of the negative pole.")

    @model_validator(mode="after")
    def _has_any(self) -> KeywordsFile:
        if not self.positive and not self.negative:
            raise ValueError("give at least one keyword")
        return self


class EvaluationFile(_Strict):
    """Texts that measure the behaviour's effect."""

    prompts: list[Text] = Field(
        default_factory=list,
        description="User messages that take the place of the built-in held-out prompts.",
    )
    choices: (
        Annotated[
            Annotated[str, Tag(TEXT_FORM)] | Annotated[list[ChoiceFile], Field(min_length=1), Tag(LIST_FORM)],
            _text_or_list("the name of a JSON or JSONL file or a list of choices"),
        ]
        | None
    ) = Field(
        default=None,
        description="Questions with two answers to choose from: a list, or a JSON or JSONL file beside this one.",
    )
    keywords: KeywordsFile | None = Field(default=None, description="Words that identify answers of each pole.")


class BehaviourFile(_Strict):
    """A behaviour: a named axis with a positive and a negative pole."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="trimtab behaviour")

    name: Slug = Field(description="Lower-case letters, digits, '-' and '_'.")
    description: str = Field(default="", description="What changes along this axis, in one sentence.")
    positive: PoleFile
    negative: PoleFile
    templates: Annotated[list[TemplateFile], Field(min_length=1)] = Field(
        default_factory=lambda: [TemplateFile(**template) for template in DEFAULT_TEMPLATES],
        description="Forms in which the model reads each persona.",
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
    """Return the JSON Schema of a behaviour file, for editors and other tools."""
    schema = BehaviourFile.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
