"""Diagnosis of models and machines with known problems, which it reports without changing them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from tiny_models import BY_NAME, EOS, HIDDEN, LAYERS, PAD, VOCABULARY, byte_tokenizer
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.doctor import diagnosis, properties
from trimtab.engines.transformers.doctor.diagnosis import Diagnosis, diagnose, refused
from trimtab.errors import ModelError

GIB = 1024**3
TURNS = (
    "{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "<bos>{{ message.role }}\n{{ message.content }}<pad>\n{% endfor %}"
    "{% if add_generation_prompt %}<bos>assistant\n{% endif %}"
)


@pytest.fixture(autouse=True)
def _roomy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(properties, "free_memory", lambda: 64 * GIB)


def states(report: Diagnosis) -> dict[str, str]:
    assert report.checks is not None
    return {each.name: each.state for each in report.checks.capabilities}


def problems(report: Diagnosis) -> dict[str, str]:
    return {problem.what: problem.severity for problem in report.problems}


def says(report: Diagnosis, words: str, severity: str) -> bool:
    return any(words in what and severity == found_severity for what, found_severity in problems(report).items())


def test_diagnose_families_work_and_stay_unchanged(engine: TransformersEngine) -> None:
    before = engine.generate("Hello", max_new_tokens=3)
    report = diagnose(engine)
    assert report.verdict == "works, nothing to do"
    assert "no" not in states(report).values()
    assert report.blocks is not None
    assert (report.blocks.count, report.blocks.hidden_size, report.blocks.causal) == (LAYERS, HIDDEN, True)
    assert report.proof is engine.proof
    assert not [module for module in engine.model.modules() if module._forward_hooks or module._forward_pre_hooks]
    assert engine.generate("Hello", max_new_tokens=3) == before


@pytest.mark.parametrize("family", ["llama", "mistral", "falcon_alibi", "mamba"])
def test_diagnose_says_whether_requests_join(tiny: Callable[..., TransformersEngine], family: str) -> None:
    engine = tiny(family)
    flat = family in ("llama", "mistral")
    assert states(diagnose(engine))["join at any token"] == ("yes" if flat else "slow")
    assert (engine.why_static() is None) == flat


def test_diagnosis_is_plain_json(llama: TransformersEngine) -> None:
    printed = json.loads(json.dumps(asdict(diagnose(llama)), allow_nan=False))
    assert printed["name"] == "tiny llama"
    assert printed["model"]["dtype"] == "float32"
    assert len(printed["checks"]["norms"]) == LAYERS
    assert printed["machine"]["packages"]["torch"] == torch.__version__


def test_diagnose_on_step_gets_each_step(llama: TransformersEngine) -> None:
    steps: list[str] = []
    diagnose(llama, on_step=steps.append)
    assert steps == ["Looking at the model", "Trying it out"]


def test_diagnose_default_model_reports_first_token_sink(smollm2: TransformersEngine) -> None:
    report = diagnose(smollm2)
    assert report.verdict == "works, nothing to do"
    assert set(states(report).values()) == {"yes"}
    assert report.chat is not None
    assert report.chat.takes_system
    assert report.chat.end_of_turn == "<|im_end|>"
    assert "SmolLM" in (report.chat.default_system or "")
    assert report.checks is not None
    (sink,) = report.checks.sinks
    assert (sink.position, sink.token, sink.texts) == (0, "<|im_start|>", report.checks.texts)
    assert all(norm is not None and 10 < norm < 2000 for norm in report.checks.norms)


@pytest.mark.parametrize("family", ["mistral", "mamba2"])
def test_diagnose_without_sharing_is_slow(tiny: Callable[..., TransformersEngine], family: str) -> None:
    report = diagnose(tiny(family))
    assert states(report)["share prefixes"] == states(report)["calibrate"] == "slow"
    assert report.checks is not None
    (why,) = [each.why for each in report.checks.capabilities if each.name == "share prefixes"]
    assert "mask" in why
    assert report.works


def test_missing_kernels_are_noted(tiny: Callable[..., TransformersEngine]) -> None:
    report = diagnose(tiny("mamba"))
    assert report.model is not None
    assert "mamba_ssm" in report.model.slow_kernels
    assert says(report, "kernels of causal_conv1d, mamba_ssm", "note")


def test_diagnose_without_template_is_a_base_model(tiny: Callable[..., TransformersEngine]) -> None:
    report = diagnose(tiny(chat_template=None))
    assert report.chat is None
    assert states(report)["chat"] == "no"
    assert report.verdict == "works, 1 remark"
    assert says(report, "no chat template", "note")


def test_diagnose_refusing_template_differs_from_none(tiny: Callable[..., TransformersEngine]) -> None:
    report = diagnose(tiny(chat_template="{{ raise_exception('no') }}"))
    assert report.chat is None
    assert says(report, "does not take a question", "note")


def test_diagnose_template_with_other_stop_and_no_system(
    tiny: Callable[..., TransformersEngine],
) -> None:
    report = diagnose(tiny(chat_template=TURNS))
    assert report.chat is not None
    assert not report.chat.takes_system
    assert (report.chat.markers, report.chat.end_of_turn) == (("<bos>", "<pad>"), "<pad>")
    assert report.tokenizer is not None
    assert report.tokenizer.stop == ("<eos>", "<pad>")
    assert says(report, "takes no system messages", "note")


@pytest.mark.parametrize(("free", "severity"), [(64 * GIB, "warning"), (None, "note")])
def test_diagnose_reduced_precision_is_reported(
    tiny: Callable[..., TransformersEngine], monkeypatch: pytest.MonkeyPatch, free: int | None, severity: str
) -> None:
    monkeypatch.setattr(properties, "free_memory", lambda: free)
    report = diagnose(tiny(dtype=torch.bfloat16))
    assert report.works
    assert says(report, "the weights are bfloat16", severity)


def test_diagnose_overflow_is_an_error_fixed_by_float32(tiny: Callable[..., TransformersEngine]) -> None:
    engine = tiny(dtype=torch.float16)
    engine.model.model.layers[2].mlp.down_proj.weight.data.fill_(60000.0)
    report = diagnose(engine)
    assert not report.works
    assert "not finite in 2 of 4 layers, the first of them 2" in report.verdict
    assert report.problems[0].severity == "error"
    assert "float32" in report.problems[0].fix
    json.dumps(asdict(report), allow_nan=False)


def bert(model_class: str) -> TransformersEngine:
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        intermediate_size=HIDDEN,
        max_position_embeddings=512,
    )
    model = getattr(transformers, model_class)(config)
    return TransformersEngine(model, byte_tokenizer(), name="tiny bert")


def test_diagnose_bidirectional_model_gives_warning() -> None:
    report = diagnose(bert("BertLMHeadModel"))
    assert report.blocks is not None
    assert not report.blocks.causal
    assert report.works
    assert says(report, "does not read from left to right", "warning")
    assert states(report)["share prefixes"] == "slow"


def test_diagnose_non_generating_model_gives_warning() -> None:
    report = diagnose(bert("BertForMaskedLM"))
    assert report.works
    assert states(report)["generate"] == states(report)["stream"] == "no"
    assert says(report, "BertForMaskedLM writes no text", "warning")


@pytest.mark.parametrize("encoder", [False, True])
def test_diagnose_encoder_decoder_reports_limits(encoder: bool) -> None:
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=HIDDEN,
        d_ff=HIDDEN,
        d_kv=8,
        num_layers=LAYERS,
        num_heads=4,
        decoder_start_token_id=PAD,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    model = transformers.T5ForConditionalGeneration(config)
    report = diagnose(TransformersEngine(model, byte_tokenizer(), name="tiny t5", encoder=encoder))
    assert report.verdict == "works, 1 remark"
    assert states(report)["calibrate"] == ("no" if encoder else "slow")
    assert says(report, "no calibration" if encoder else "its decoder", "note")


def test_diagnose_foreign_tokenizer_gives_warning(tiny: Callable[..., TransformersEngine]) -> None:
    engine = tiny(vocab_size=VOCABULARY - 1, pad_token_id=EOS)
    assert says(diagnose(engine), f"knows {VOCABULARY} tokens, the model {VOCABULARY - 1}", "warning")


def test_diagnose_failed_check_leaves_others_running(
    tiny: Callable[..., TransformersEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no such luck\nsecond line")

    engine = tiny("falcon")  # it answers by the model's own generate
    monkeypatch.setattr(engine.model, "generate", broken)
    report = diagnose(engine)
    assert report.works
    assert states(report)["steer"] == states(report)["KL"] == "yes"
    assert says(report, "no answers: no such luck", "warning")


def test_refused_reports_reason_and_machine() -> None:
    report = refused("nobody/knows", ModelError("it cannot be report", fix="check the name"))
    assert not report.works
    assert report.verdict == "cannot be steered: it cannot be report"
    assert report.model is report.checks is None
    assert (report.problems[0].severity, report.problems[0].fix) == ("error", "check the name")
    assert report.machine.python
    json.dumps(asdict(report))


def test_diagnose_machine_problems_are_reported(
    llama: TransformersEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("TRIMTAB_VECTORS", str(tmp_path / "file" / "vectors"))
    monkeypatch.setattr(properties, "free_memory", lambda: 100 * 1024**2)
    monkeypatch.setattr("importlib.metadata.requires", lambda _: ["torch>=99", "numpy>=1", "x>=9; extra == 'y'"])
    report = diagnose(llama)
    assert report.verdict == "works, 4 remarks"
    assert says(report, "torch>=99", "warning")
    assert says(report, "only 100 MiB of memory", "warning")
    assert says(report, "the cache folder", "warning")
    assert says(report, "the vectors folder", "warning")


def test_diagnose_full_gpu_and_large_model_are_reported(llama: TransformersEngine) -> None:
    here = properties.this_machine()
    full = SimpleNamespace(**{**vars(here), "gpus": (properties.Gpu("a card", GIB // 2, 80 * GIB),)})
    assert [each.what for each in diagnosis._of_machine(full)] == ["only 512 MiB are free on a card"]
    facts, blocks = diagnosis.model_facts(llama), diagnosis.block_facts(llama)
    large = SimpleNamespace(**{**vars(facts), "parameters": 7 * 10**9})
    (problem,) = diagnosis._of_model(large, blocks, here)
    assert problem.what.startswith("7.0 billion parameters")


def test_free_memory_unreported_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    free = properties.free_memory()
    assert free is None or free > 0

    def gone(*_: Any, **__: Any) -> Any:
        raise OSError

    monkeypatch.setattr(properties.Path, "read_text", gone)
    monkeypatch.setattr(properties.os, "sysconf", gone)
    assert properties.free_memory() is None
    assert properties._cpu()


def test_diagnose_sink_is_excluded_from_norms() -> None:
    engine = TransformersEngine(BY_NAME["llama"].build(), byte_tokenizer(), name="tiny sink")
    engine.model.model.embed_tokens.weight.data[engine.tokenizer.convert_tokens_to_ids("?")] *= 1000.0
    report = diagnose(engine)
    assert report.checks is not None
    assert {sink.token for sink in report.checks.sinks} == {"?"}
    assert max(norm or 0.0 for norm in report.checks.norms) < 100.0
