from __future__ import annotations

import pytest

from architectures.building import Architecture, every_architecture
from architectures.matrix import check
from architectures.table import label, of_kind, row_of, rows_on_page

EVERY = every_architecture()
TAKEN = ("works", "plain path only")
FAMILIES = (
    "LlamaForCausalLM",
    "GPT2LMHeadModel",
    "GPTNeoXForCausalLM",
    "BertLMHeadModel",  # norms behind the sum
    "GPTJForCausalLM",  # attention and inner network side by side, as in the next two
    "PhiForCausalLM",
    "FalconForCausalLM",
    "MixtralForCausalLM",
    "Qwen2MoeForCausalLM",
    "Qwen3MoeForCausalLM",
    "GptOssForCausalLM",
    "DeepseekV2ForCausalLM",
    "DeepseekV3ForCausalLM",
    "Gemma3ForCausalLM",
    "MistralForCausalLM",
    "MambaForCausalLM",
    "Mamba2ForCausalLM",
    "Lfm2ForCausalLM",
    "JambaForCausalLM",
    "FalconH1ForCausalLM",
    "Qwen3NextForCausalLM",
    "LlavaForConditionalGeneration",
    "Qwen2_5_VLForConditionalGeneration",
    "Qwen3VLForConditionalGeneration",
    "Gemma3ForConditionalGeneration",
    "Idefics3ForConditionalGeneration",
    "SmolVLMForConditionalGeneration",
    "T5ForConditionalGeneration",
    "BartForConditionalGeneration",
)
QUICK = tuple(next(architecture for architecture in EVERY if architecture.name == name) for name in FAMILIES)


def _outcome(row: str) -> str:
    return row.split(" | ")[1]


@pytest.mark.architectures
@pytest.mark.parametrize("architecture", EVERY, ids=str)
def test_every_architecture_is_read_and_steered_as_by_hand_or_refused_and_the_page_says_so(architecture: Architecture):
    assert row_of(check(architecture)) == rows_on_page().get(label(architecture)), "make architectures writes the page"


@pytest.mark.parametrize("architecture", QUICK, ids=str)
def test_well_known_families_are_read_and_steered_as_by_hand(architecture: Architecture):
    result = check(architecture)
    assert result.outcome in TAKEN
    assert row_of(result) == rows_on_page()[label(architecture)], "make architectures writes the page"


def test_the_page_says_that_nearly_all_causal_language_models_are_taken():
    page = rows_on_page()
    outcomes = [_outcome(page.get(label(architecture), " | ")) for architecture in of_kind("causal")]
    built = [outcome for outcome in outcomes if outcome != "not built"]
    assert sum(outcome in TAKEN for outcome in built) >= 0.95 * len(built)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_page_says_that_every_well_known_family_is_taken(name: str):
    found = [row for row in rows_on_page().values() if row.startswith(f"| `{name}`")]
    assert found
    assert all(_outcome(row) in TAKEN for row in found)
