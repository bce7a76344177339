"""Contrast from what the model itself says: its answers in the character of either pole.

Where the last token of a prompt does not carry a behaviour yet, the tokens of an answer do. The model answers neutral
questions under system prompts that ask for the two poles, and each answer's states are averaged over its tokens.
Source: "response average" of persona vectors (Chen et al. 2025).
"""

from __future__ import annotations

from trimtab.behaviours import Behaviour, Message, neutral_prompts
from trimtab.engines import Completion, Engine
from trimtab.errors import BehaviourError
from trimtab.learning.contrast import Contrasted
from trimtab.learning.progress import OnProgress, Progress
from trimtab.pairs import persona_instructions

PHASE = "Letting the model answer in character"
MAX_RESPONSES = 96
ANSWER_TOKENS = 32


def answers_in_character(
    model: Engine,
    behaviour: Behaviour,
    *,
    max_pairs: int,
    temperature: float,
    seed: int,
    progress: OnProgress,
) -> list[Contrasted]:
    """Pairs of answers to the same question under the two poles' system prompts, to be averaged over their tokens.

    Questions are the neutral prompts of the calibration half, met by one phrasing of the personas after another; the
    held-out half stays unseen.

    Args:
        model: The engine.
        behaviour: Must have personas.
        max_pairs: Upper bound on the pairs; ``MAX_RESPONSES`` at most.
        temperature: 0 takes greedy answers, else they are sampled.
        seed: Of the samples.
        progress: Told when the answers are there.

    Raises:
        BehaviourError: The behaviour has no personas, or fewer than two pairs come out.
    """
    questions = neutral_prompts().calibration
    count = min(max_pairs, MAX_RESPONSES)
    chats = []
    for number in range(count):
        instructions = persona_instructions(behaviour, number)
        question = Message("user", questions[number % len(questions)])
        chats += [(Message("system", told), question) for told in (instructions.positive, instructions.negative)]
    progress(Progress(PHASE, 0, 1))
    answers = model.generate(chats, max_new_tokens=ANSWER_TOKENS, temperature=temperature, seed=seed)
    progress(Progress(PHASE, 1, 1))
    prompts = [model.encode(model.render(chat)) for chat in chats]
    spoken = [_spoken(answer) for answer in answers]
    pairs = {
        (prompts[n] + spoken[n], prompts[n + 1] + spoken[n + 1]): (len(prompts[n]), len(prompts[n + 1]))
        for n in range(0, len(chats), 2)
        if spoken[n] and spoken[n + 1]
    }
    if len(pairs) < 2:
        raise BehaviourError(
            f"{behaviour.source}: the model gave fewer than two pairs of answers", fix="use source='prompts'"
        )
    return [
        Contrasted(positive, negative, ((starts[0], None), (starts[1], None)))
        for (positive, negative), starts in pairs.items()
    ]


def _spoken(answer: Completion) -> tuple[int, ...]:
    """The answer's tokens without the one that ends the turn."""
    return answer.tokens[:-1] if answer.finish_reason == "stop" else answer.tokens
