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
def test_architecture_result_equals_documented_result(architecture: Architecture):
    assert row_of(check(architecture)) == rows_on_page().get(label(architecture)), "make architectures writes the page"


@pytest.mark.parametrize("architecture", QUICK, ids=str)
def test_known_families_equal_manual_steering(architecture: Architecture):
    result = check(architecture)
    assert result.outcome in TAKEN
    assert row_of(result) == rows_on_page()[label(architecture)], "make architectures writes the page"


def test_page_lists_nearly_all_causal_models_as_working():
    page = rows_on_page()
    outcomes = [_outcome(page.get(label(architecture), " | ")) for architecture in of_kind("causal")]
    built = [outcome for outcome in outcomes if outcome != "not built"]
    assert sum(outcome in TAKEN for outcome in built) >= 0.95 * len(built)


@pytest.mark.parametrize("name", FAMILIES)
def test_page_lists_known_families_as_working(name: str):
    found = [row for row in rows_on_page().values() if row.startswith(f"| `{name}`")]
    assert found
    assert all(_outcome(row) in TAKEN for row in found)
