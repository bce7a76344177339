"""Training by gradient: with respect to what is added to hidden states, never to weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from trimtab.engines.base import Array, Expected, Lesson, Preference, Tokens
from trimtab.engines.transformers.host import Host
from trimtab.engines.transformers.imitation import TeacherImitation, expectations
from trimtab.engines.transformers.pushing import has_gradients
from trimtab.engines.transformers.slopes import PreferenceSlopes


@final
@dataclass(frozen=True)
class HostGradients:
    """See ``trimtab.engines.base.Gradients``.

    Attributes:
        host: A model for which ``has_gradients`` holds.
    """

    host: Host

    @classmethod
    def of(cls, host: Host) -> HostGradients | None:
        """Of a model, if texts of it can be padded at their end without effect."""
        return cls(host) if has_gradients(host) else None

    def slopes(self, items: Sequence[Preference], *, swift: bool = False) -> PreferenceSlopes:
        """See ``trimtab.engines.base.Gradients.slopes``."""
        return PreferenceSlopes.of(self.host, items, swift=swift)

    def expectations(
        self,
        texts: Sequence[tuple[Tokens, Tokens]],
        *,
        top: int,
        additions: Mapping[int, Array],
        generated: bool = False,
        swift: bool = False,
    ) -> list[Expected]:
        """See ``trimtab.engines.base.Gradients.expectations``."""
        return expectations(self.host, texts, top=top, additions=additions, generated=generated, swift=swift)

    def imitation(self, lessons: Sequence[Lesson], *, generated: bool = False, swift: bool = False) -> TeacherImitation:
        """See ``trimtab.engines.base.Gradients.imitation``."""
        return TeacherImitation.of(self.host, lessons, generated=generated, swift=swift)
