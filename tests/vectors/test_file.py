"""Vector file: round trip, layout, invalid files, and atomic writing."""

from __future__ import annotations

import builtins
import dataclasses
import errno
import io
import json
import os
import pickle
import threading
import types
import typing
import zipfile
from collections import abc
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save

from sample_vectors import control_vectors, dense, make_vector
from trimtab.errors import OutputError, TrimtabError, VectorError, VectorMismatchError
from trimtab.vectors import (
    BehaviourRef,
    Calibration,
    Collection,
    ControlVector,
    Distillation,
    ModelInfo,
    Neutral,
    Reader,
    Reliability,
    SafeRange,
    ThresholdFit,
    write_atomically,
)

numbers = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(max_size=12)
models = st.builds(ModelInfo, words, words, hidden_size=st.integers(1, 9), layers=st.integers(1, 5), fingerprint=words)


def record(kind: Any) -> st.SearchStrategy:
    """Any value of a record's type, whatever fields it has."""
    if dataclasses.is_dataclass(kind):
        return st.builds(kind, **{name: record(hint) for name, hint in get_type_hints(kind).items()})
    inner = get_args(kind)
    match get_origin(kind) or kind:
        case types.UnionType:
            return st.one_of(*map(record, inner))
        case builtins.tuple:
            return st.lists(record(inner[0]), max_size=2).map(tuple)
        case abc.Mapping:
            return st.dictionaries(record(inner[0]), record(inner[1]), max_size=3)
        case typing.Literal:
            return st.sampled_from(inner)
        case types.NoneType:
            return st.none()
        case builtins.float:
            return numbers
        case builtins.int:
            return st.integers(0, 10**6)
        case builtins.str:
            return words
    raise AssertionError(f"no strategy for {kind}")


def filled(kind: Any) -> Any:
    """One value of a record's type, with nothing left out."""
    if dataclasses.is_dataclass(kind):
        return kind(**{name: filled(hint) for name, hint in get_type_hints(kind).items()})
    inner = get_args(kind)
    match get_origin(kind) or kind:
        case types.UnionType:
            return filled(inner[0])
        case builtins.tuple:
            return (filled(inner[0]),)
        case typing.Literal:
            return inner[0]
        case abc.Mapping:
            return {key: filled(inner[1]) for key in (("+", "-") if inner[0] is str else (0, 2))}
    return {float: 0.25, int: 3, str: "text"}[kind]


FULL = make_vector(
    safe=filled(SafeRange),
    calibration=filled(Calibration),
    reliability=filled(Reliability),
    neutral=filled(Neutral),
    reader=filled(Reader),
    fits=(filled(ThresholdFit),),
    operator_scales={"rotate": {"+": 0.3, "-": 0.4}},
    effort="quick",
    created="2026-01-02T03:04:05+00:00",
    trimtab_version="0.1.0",
)
RECORDS = (
    "model",
    "norms",
    "weights",
    "scale",
    "method",
    "behaviour",
    "safe",
    "calibration",
    "reliability",
    "collection",
    "distillation",
    "neutral",
    "reader",
    "fits",
    "operator_scales",
    "effort",
    "created",
)


def assert_same_vector(found: ControlVector, expected: ControlVector) -> None:
    assert list(found.directions) == list(expected.directions)
    for layer, direction in expected.directions.items():
        assert found.directions[layer].tobytes() == direction.tobytes()
    for name in (*RECORDS, "trimtab_version"):
        assert getattr(found, name) == getattr(expected, name), name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vectors")


# Round trip and layout


@settings(max_examples=30)
@given(data=st.data(), model=models)
def test_file_round_trip(folder, data, model):
    vector = data.draw(control_vectors(model=model, calibrated=None))
    fields = {name: getattr(vector, name) for name in RECORDS} | {"directions": vector.directions}
    fields |= data.draw(
        st.fixed_dictionaries(
            {
                "safe": st.none() | record(SafeRange),
                "calibration": st.none() | record(Calibration),
                "reliability": st.none() | record(Reliability),
                "collection": st.none() | record(Collection),
                "distillation": st.none() | record(Distillation),
                "neutral": st.none() | record(Neutral),
                "reader": st.none() | record(Reader),
                "fits": st.lists(record(ThresholdFit), max_size=2).map(tuple),
                "operator_scales": st.dictionaries(
                    words, st.fixed_dictionaries({"+": st.floats(0.1, 9), "-": st.floats(0.1, 9)}), max_size=2
                ),
                "behaviour": st.builds(BehaviourRef, words, words),
                "method": words,
                "effort": words,
                "created": words,
                "trimtab_version": words,
            }
        )
    )
    vector = ControlVector(**fields)
    assert_same_vector(ControlVector.load(vector.save(folder / "v.safetensors")), vector)


def test_load_header_length_resembling_pickle(folder):
    starts = set()
    for length in range(0, 1000, 8):
        vector = make_vector(method="x" * length, directions={}, norms={}, weights={})
        path = vector.save(folder / "v.safetensors")
        starts.add(path.read_bytes()[:2])
        assert ControlVector.load(path).method == vector.method
    assert starts >= {b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"}


def test_file_round_trip_without_steered_layers(tmp_path):
    nothing = make_vector() - make_vector()
    assert ControlVector.load(nothing.save(tmp_path / "v.safetensors")).layers == ()


def test_save_accepts_numpy_layer_numbers(tmp_path):
    plain = make_vector()
    fields = {
        name: {np.int64(layer): value for layer, value in getattr(plain, name).items()}
        for name in ("directions", "norms", "weights")
    }
    numbered = make_vector(**fields)
    assert {type(layer) for layer in numbered.directions} == {int}
    assert_same_vector(ControlVector.load(numbered.save(tmp_path / "v.safetensors")), plain)


def test_file_has_documented_layout(tmp_path):
    with safe_open(FULL.save(tmp_path / "v.safetensors"), framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    assert {name: (t.dtype, t.shape) for name, t in tensors.items()} == {
        "direction.0": (np.float32, (4,)),
        "direction.2": (np.float32, (4,)),
    }
    np.testing.assert_array_equal(tensors["direction.2"], FULL.directions[2])
    assert list(metadata) == ["trimtab"]
    header = json.loads(metadata["trimtab"])
    assert set(header) == {
        "format",
        "model",
        "method",
        "behaviour",
        "norms",
        "weights",
        "scale",
        "safe",
        "calibration",
        "reliability",
        "collection",
        "distillation",
        "neutral",
        "reader",
        "fits",
        "operator_scales",
        "effort",
        "created",
        "trimtab_version",
    }
    assert header["format"] == 1
    assert header["model"] == {
        "name": "tiny",
        "architecture": "LlamaForCausalLM",
        "hidden_size": 4,
        "layers": 3,
        "fingerprint": "f00d",
    }
    assert header["behaviour"] == {"name": "happy", "digest": "digest of happy", "positive": "", "negative": ""}
    assert header["norms"] == {"0": 10.0, "2": 20.0}
    assert header["weights"] == {"0": 1.0, "2": 0.5}
    assert header["scale"] == {"+": 0.1, "-": 0.2}
    assert header["calibration"]["budget"] == FULL.calibration.budget
    assert header["safe"] == {
        "low": 0.25,
        "high": 0.25,
        "reasons": {"+": "repetition", "-": "repetition"},
        "questions": 3,
    }
    assert header["calibration"]["kl"] == FULL.calibration.kl
    assert header["neutral"]["percentiles"] == {"0": [0.25], "2": [0.25]}
    assert header["reader"]["layers"] == [3]
    assert header["fits"] == [{"at": "text", "readings": [0.25], "texts": 3}]
    assert header["operator_scales"] == {"rotate": {"+": 0.3, "-": 0.4}}
    assert header["reliability"]["cosine_by_layer"] == {"0": 0.25, "2": 0.25}


def test_load_ignores_unknown_header_keys(tmp_path):
    header = {**header_of(FULL), "later": 1, "model": {**header_of(FULL)["model"], "later": [2]}}
    assert_same_vector(ControlVector.load(written(tmp_path, header=header)), FULL)


def test_load_older_file_has_no_safe_range(tmp_path):
    header = header_of(FULL)
    del header["safe"], header["effort"], header["calibration"]["held_out"]["written"]
    older = ControlVector.load(written(tmp_path, header=header))
    assert (older.safe, older.calibration.held_out.written, older.default_strength) == (None, (), 0.5)


def test_save_nonfinite_record_is_refused(tmp_path):
    vector = make_vector(reliability=Reliability(2, float("nan"), 1.0, {}))
    with pytest.raises(VectorError, match="'happy' cannot be written as JSON"):
        vector.save(tmp_path / "v.safetensors")
    assert list(tmp_path.iterdir()) == []


# Files that are refused


def header_of(vector: ControlVector) -> dict:
    return json.loads(json.dumps(vector.describe()))


def written(folder: Path, *, header: object = None, text: str | None = None, tensors: dict | None = None) -> Path:
    """Write a safetensors file like that of ``FULL``, with another header or other tensors."""
    if tensors is None:
        tensors = {f"direction.{layer}": np.asarray(d) for layer, d in FULL.directions.items()}
    if text is None:
        text = json.dumps(header_of(FULL) if header is None else header)
    path = folder / "v.safetensors"
    path.write_bytes(save(tensors, {"trimtab": text}))
    return path


def refusal(path: Path) -> str:
    """Return the error message for a file, after checking that it names the file and that nothing is left."""
    before = sorted(path.parent.iterdir()) if path.parent.is_dir() else None
    with pytest.raises(VectorError) as caught:
        ControlVector.load(path)
    assert str(path) in str(caught.value)
    assert before == (sorted(path.parent.iterdir()) if path.parent.is_dir() else None)
    return str(caught.value)


def test_load_unmodified_test_file(tmp_path):
    assert_same_vector(ControlVector.load(written(tmp_path)), FULL)


def test_load_missing_file_is_refused(tmp_path):
    assert "does not exist" in refusal(tmp_path / "v.safetensors")
    assert "does not exist" in refusal(tmp_path / "no such folder" / "v.safetensors")


def test_load_folder_is_refused(tmp_path):
    (tmp_path / "v.safetensors").mkdir()
    assert "is a folder" in refusal(tmp_path / "v.safetensors")


def test_load_empty_file_is_refused(tmp_path):
    (tmp_path / "v.safetensors").touch()
    assert "not a whole safetensors file" in refusal(tmp_path / "v.safetensors")


WHOLE = save(
    {f"direction.{n}": np.asarray(d) for n, d in FULL.directions.items()}, {"trimtab": json.dumps(FULL.describe())}
)


@given(st.integers(0, len(WHOLE) - 1))
@example(7)
@example(8)
@example(len(WHOLE) - 1)
def test_load_truncated_file_is_refused(folder, length):
    path = folder / "truncated.safetensors"
    path.write_bytes(WHOLE[:length])
    assert "not a whole safetensors file" in refusal(path)


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_load_damaged_file_gives_vector_or_error(folder, at, flip):
    path = folder / "damaged.safetensors"
    path.write_bytes(WHOLE[:at] + bytes([WHOLE[at] ^ flip]) + WHOLE[at + 1 :])
    try:
        vector = ControlVector.load(path)
    except VectorError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert np.isfinite(dense(vector.addition(coefficient=1.0), model=vector.model)).all()


class Bomb:
    """Payload of a malicious pickle: loading it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def zipped(content: bytes) -> bytes:
    """Return a zip archive around a pickle, as torch.save writes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return out.getvalue()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("wrap", [bytes, zipped])
def test_load_pickle_is_refused_and_not_run(tmp_path, protocol, wrap):
    path, fuse = tmp_path / "v.safetensors", tmp_path / "exploded"
    path.write_bytes(wrap(pickle.dumps(Bomb(fuse), protocol)))
    message = refusal(path)
    assert not fuse.exists()
    if protocol >= 2 or wrap is zipped:
        assert "is a pickle, which could run code" in message


TENSORS = {f"direction.{layer}": np.asarray(d) for layer, d in FULL.directions.items()}
BAD_TENSORS = {
    "NaN": ({"direction.0": TENSORS["direction.0"] * np.nan}, "layer 0 holds NaN or infinity"),
    "infinity": ({"direction.2": np.array([np.inf, 0, 0, 0], np.float32)}, "layer 2 holds NaN or infinity"),
    "half precision": ({"direction.0": TENSORS["direction.0"].astype(np.float16)}, "'direction.0' is float16"),
    "double precision": ({"direction.0": TENSORS["direction.0"].astype(np.float64)}, "'direction.0' is float64"),
    "whole numbers": ({"direction.0": np.array([1, 0, 0, 0])}, "'direction.0' is int64"),
    "wrong width": ({"direction.0": np.array([1, 0], np.float32)}, "layer 0 has shape [2], expected [4]"),
    "a matrix": ({"direction.0": np.eye(4, dtype=np.float32)}, "layer 0 has shape [4, 4]"),
    "not a unit vector": ({"direction.0": TENSORS["direction.0"] * 3}, "layer 0 has length 3"),
    "another name": ({"weight": TENSORS["direction.0"]}, "unexpected tensor 'weight'"),
    "no number": ({"direction.one": TENSORS["direction.0"]}, "unexpected tensor 'direction.one'"),
    "a leading zero": ({"direction.00": TENSORS["direction.0"]}, "unexpected tensor 'direction.00'"),
    "a layer below zero": ({"direction.-1": TENSORS["direction.0"]}, "unexpected tensor 'direction.-1'"),
    "a layer past the last": ({"direction.3": TENSORS["direction.0"]}, "layer 3, but tiny has layers 0 to 2"),
    "probes without a reader": ({"probe.0": TENSORS["direction.0"]}, "probes has no reader at their layers"),
    "a longer probe": ({"probe.2": TENSORS["direction.2"] * 2}, "probe of layer 2 has length 2"),
    "a layer too many": ({"direction.1": TENSORS["direction.0"]}, "norms are given for layers [0, 2]"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_load_bad_tensors_are_refused(tmp_path, changes, message):
    assert message in refusal(written(tmp_path, tensors={**TENSORS, **changes}))


def test_load_missing_layer_is_refused(tmp_path):
    message = refusal(written(tmp_path, tensors={"direction.0": TENSORS["direction.0"]}))
    assert "norms are given for layers [0, 2], directions for [0]" in message


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_load_other_safetensors_is_refused(tmp_path, metadata):
    path = tmp_path / "v.safetensors"
    path.write_bytes(save(TENSORS, metadata))
    assert "not a trimtab vector" in refusal(path)


@pytest.mark.parametrize("text", ["", "happy", "{", "[]", "1", '"format"', "null", "[" * 100_000])
def test_load_header_not_json_object_is_refused(tmp_path, text):
    assert "its header is not JSON" in refusal(written(tmp_path, text=text))


@pytest.mark.parametrize("version", [0, 2, 999, "1", None, [1]])
def test_load_other_format_is_refused(tmp_path, version):
    message = refusal(written(tmp_path, header={**header_of(FULL), "format": version}))
    assert f"its format is {version}, this trimtab reads 1; upgrade trimtab" in message


@pytest.mark.parametrize("key", ["model", "method", "behaviour", "norms", "weights", "scale"])
def test_load_header_missing_required_key_is_refused(tmp_path, key):
    header = header_of(FULL)
    del header[key]
    assert f"header is wrong at {key}: " in refusal(written(tmp_path, header=header))


def changed(*keys: str | int, to: object) -> dict:
    """Return the header of ``FULL`` with the value at ``keys`` replaced."""
    header = inner = header_of(FULL)
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    return header


def numbers_in(value: object, *keys: str | int) -> list[tuple[str | int, ...]]:
    """Return the keys of every number in a header."""
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in numbers_in(inner, *keys, key)]
    if isinstance(value, list):
        return [found for n, inner in enumerate(value) for found in numbers_in(inner, *keys, n)]
    return [keys] if isinstance(value, (int, float)) else []


def test_header_number_cases_cover_all_records():
    tried = {".".join(map(str, keys)) for keys in numbers_in(header_of(FULL))}
    assert tried >= {"norms.0", "scale.-", "calibration.kl.+", "calibration.candidates.0.swing.low"}
    assert tried >= {"calibration.held_out.quality.+.distinct_2", "reliability.cosine_by_layer.2"}


@pytest.mark.parametrize(
    "keys",
    [keys for keys in numbers_in(header_of(FULL)) if keys != ("format",)],
    ids=lambda keys: ".".join(map(str, keys)),
)
def test_load_nonfinite_header_number_names_key(tmp_path, keys):
    for number in (float("nan"), float("inf"), float("-inf"), "many"):
        message = refusal(written(tmp_path, header=changed(*keys, to=number)))
        assert f"header is wrong at {'.'.join(map(str, keys))}: " in message


BAD_HEADERS = {
    "one scale only": (changed("scale", to={"+": 1.0}), "expected a positive number for '+' and for '-'"),
    "scales by other names": (changed("scale", to={"up": 1.0, "down": 1.0}), "expected a positive number for '+'"),
    "a scale of zero": (changed("scale", "+", to=0.0), "expected a positive number for '+'"),
    "a weight below zero": (changed("weights", "0", to=-1.0), "weights[0] is -1.0"),
    "a norm too few": (changed("norms", to={"0": 1.0}), "norms are given for layers [0]"),
    "half a layer": (changed("norms", to={"0": 1.0, "1.5": 1.0}), "header is wrong at norms.1.5"),
    "another width": (changed("model", "hidden_size", to=8), "layer 0 has shape [4], expected [8]"),
    "too few layers": (changed("model", "layers", to=2), "layer 2, but tiny has layers 0 to 1"),
    "a model without a width": (changed("model", to={"name": "tiny"}), "header is wrong at model."),
    "a record that lacks a key": (changed("reliability", to={"pairs": 2}), "header is wrong at reliability."),
}


@pytest.mark.parametrize(("header", "message"), BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_load_contradictory_header_is_refused(tmp_path, header, message):
    assert message in refusal(written(tmp_path, header=header))


# Which model a file is for


def engine_of(**changes: object) -> SimpleNamespace:
    return SimpleNamespace(info=ModelInfo(**{**header_of(FULL)["model"], **changes}))


def test_load_for_same_model(tmp_path):
    path = FULL.save(tmp_path / "v.safetensors")
    assert_same_vector(ControlVector.load(path, model=engine_of()), FULL)


def test_load_for_other_weights_needs_force(tmp_path):
    path = FULL.save(tmp_path / "v.safetensors")
    tuned = engine_of(name="tuned", fingerprint="beef")
    with pytest.raises(VectorMismatchError, match=r"tiny, whose weights differ from those of tuned.*--force"):
        ControlVector.load(path, model=tuned)
    forced = ControlVector.load(path, model=tuned, force=True)
    forced.check_model(tuned.info)
    np.testing.assert_array_equal(dense(forced.addition(1)), dense(FULL.addition(1)))


@pytest.mark.parametrize("changes", [{"hidden_size": 8}, {"layers": 4}])
def test_load_for_other_size_is_refused_with_force(tmp_path, changes):
    path = FULL.save(tmp_path / "v.safetensors")
    with pytest.raises(VectorMismatchError, match="train it for this model"):
        ControlVector.load(path, model=engine_of(name="other", **changes), force=True)


# Writing is all or nothing


def test_save_creates_folders_and_returns_path(tmp_path):
    path = tmp_path / "a" / "b" / "v.safetensors"
    assert FULL.save(str(path)) == path
    assert list(path.parent.iterdir()) == [path]


def test_save_below_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("here")
    for path in (tmp_path / "file" / "v.safetensors", tmp_path / "file" / "deeper" / "v.safetensors"):
        with pytest.raises(OutputError, match=r"cannot write '.*v\.safetensors'.*choose a folder"):
            FULL.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "here"


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_save_without_file_name_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="not the name of a file"):
        FULL.save(name)


def test_save_over_folder_is_refused(tmp_path):
    (tmp_path / "v.safetensors").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        FULL.save(tmp_path / "v.safetensors")
    assert [entry.name for entry in tmp_path.iterdir()] == ["v.safetensors"]


def raise_full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


class TornFile(io.FileIO):
    """File whose write is interrupted after half of the bytes."""

    failure: BaseException

    def write(self, content: bytes) -> int:
        super().write(content[: len(content) // 2])
        raise self.failure


def tear_writes(monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> None:
    def torn_open(path: Path, mode: str = "r", **_: object) -> TornFile:
        file = TornFile(path, mode)
        file.failure = failure
        return file

    monkeypatch.setattr(Path, "open", torn_open)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda patch: patch.setattr(os, "fsync", raise_full),
        lambda patch: patch.setattr(Path, "replace", raise_full),
        lambda patch: tear_writes(patch, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
    ],
    ids=["at the end of writing", "at the rename", "in the middle of writing"],
)
def test_save_on_full_disk_keeps_old_file(tmp_path, break_it):
    path = FULL.save(tmp_path / "v.safetensors")
    old = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        break_it(patch)
        with pytest.raises(OutputError, match="No space left on device"):
            make_vector("another").save(path)
        with pytest.raises(OutputError, match="No space left on device"):
            make_vector("another").save(tmp_path / "new.safetensors")
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "break_it",
    [
        lambda patch: patch.setattr(os, "fsync", raise_interrupt),
        lambda patch: patch.setattr(Path, "replace", raise_interrupt),
        lambda patch: tear_writes(patch, KeyboardInterrupt()),
    ],
    ids=["at the end of writing", "at the rename", "in the middle of writing"],
)
def test_save_interrupted_leaves_no_temporary_file(tmp_path, break_it):
    with pytest.MonkeyPatch.context() as patch:
        break_it(patch)
        with pytest.raises(KeyboardInterrupt):
            FULL.save(tmp_path / "v.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_save_is_atomic_for_concurrent_reader(tmp_path):
    path = tmp_path / "v.bin"
    old, new = b"o" * 500_000, b"n" * 400_000
    write_atomically(path, old)
    done = threading.Event()

    def rewrite() -> None:
        for n in range(30):
            write_atomically(path, new if n % 2 == 0 else old)
        done.set()

    writer = threading.Thread(target=rewrite)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(path.read_bytes())
    writer.join()
    assert seen <= {old, new}
    assert list(tmp_path.iterdir()) == [path]


@given(control_vectors(calibrated=None), st.binary(min_size=1, max_size=40))
@settings(max_examples=30)
def test_load_trailing_bytes_are_refused(folder, vector, rest):
    path = vector.save(folder / "longer.safetensors")
    path.write_bytes(path.read_bytes() + rest)
    assert "not a whole safetensors file" in refusal(path)


@settings(max_examples=25)
@given(st.recursive(st.none() | numbers | words, lambda inner: st.lists(inner) | st.dictionaries(words, inner)))
def test_load_arbitrary_header_part_loads_or_is_refused(folder, junk):
    for key in header_of(FULL):
        path = written(folder, header=changed(key, to=junk))
        try:
            ControlVector.load(path)
        except TrimtabError as error:
            assert str(path) in str(error)  # noqa: PT017
