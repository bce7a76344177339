"""``trimtab zoo``: listing behaviours with what was measured, one card, and making vectors and cards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.sample_report import not_working, unmeasured, working
from trimtab import Behaviour, ControlVector
from trimtab.behaviours import zoo_names
from trimtab.errors import CalibrationError
from trimtab.evaluation.cards import Card, card_json, card_json_values, card_of, read_card
from trimtab.evaluation.measurement import Sizes
from trimtab.training.train import train, zoo_path
from trimtab.vectors import vectors_folder

SMALL = Sizes(
    questions=4,
    kl=3,
    controls_kl=2,
    written=3,
    randoms=2,
    pairs=8,
    facts=6,
    harmful=2,
    answer_tokens=4,
    written_tokens=6,
    halvings=1,
)


def card_for(name: str, report=None) -> Card:
    """Return a current card of a behaviour of the zoo."""
    return replace(card_of(report or working()), name=name, digest=Behaviour.load(name).digest)


def write_cards(folder: Path, *cards: Card) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for card in cards:
        (folder / f"{card.name}.json").write_bytes(card_json(card))


@pytest.fixture
def run(run_on, tiny_llama):
    """Run ``trimtab ARGUMENTS``; gives (code, stdout, stderr)."""
    return run_on(tiny_llama)


@pytest.fixture
def small(monkeypatch) -> None:
    """Little is asked for a card."""
    monkeypatch.setattr("trimtab.evaluation.measurement.THOROUGH", SMALL)


@pytest.fixture
def trainings(monkeypatch) -> list[str]:
    """Return the trained behaviours; training uses few pairs, and fails for ``formal``."""
    names: list[str] = []

    def quickly(model, behaviour, *, seed, checkpoint, progress, **_):
        names.append(behaviour.name)
        if behaviour.name == "formal":
            raise CalibrationError("no strength spends 0.4 nat", fix="try another model")
        return train(
            model,
            behaviour,
            seed=seed,
            checkpoint=checkpoint,
            progress=progress,
            max_pairs=16,
            layers=[1, 2],
            check=False,
            refine=0,
        )

    monkeypatch.setattr("trimtab.training.train.train", quickly)
    return names


# The list


def test_zoo_lists_behaviours_with_measurements(no_model, monkeypatch):
    cards = {"happy": card_for("happy"), "calm": card_for("calm", not_working())}
    monkeypatch.setattr("trimtab.evaluation.cards.zoo_cards", lambda folder=None: cards)
    code, out, _ = no_model("zoo")
    assert code == 0
    listed = [line for line in out.splitlines() if line.strip() and line.split()[0] in zoo_names()]
    rows = {line.split()[0]: line for line in reversed(listed)}
    assert set(rows) == set(zoo_names())
    assert "✔" in rows["happy"]
    assert "2.1" in rows["happy"]  # times the prompt at the safe ends
    assert "-0.75…+1" in rows["happy"]
    assert "✘" in rows["calm"]
    assert "–" in rows["formal"]
    assert "Measured on Small-135M-Instruct" in out
    assert "neither way beyond chance" in " ".join(out.split("Shortfalls:")[1].split())


def test_zoo_without_cards_says_so(no_model, monkeypatch):
    monkeypatch.setattr("trimtab.evaluation.cards.zoo_cards", lambda folder=None: {})
    assert "No behaviour was measured yet." in no_model("zoo")[1]


def test_zoo_json_has_poles_vectors_and_cards(no_model, monkeypatch, llama, random_vector):
    monkeypatch.setattr("trimtab.evaluation.cards.zoo_cards", lambda folder=None: {"happy": card_for("happy")})
    path = random_vector(llama, name="calm").save(vectors_folder() / "calm.safetensors")
    _, out, _ = no_model("zoo", "--json")
    listed = {entry["name"]: entry for entry in json.loads(out)}
    assert list(listed) == list(zoo_names())
    assert listed["happy"]["card"] == json.loads(json.dumps(card_json_values(card_for("happy"))))
    assert listed["happy"]["negative"] == "sad"
    assert listed["calm"]["vector"] == str(path)
    assert listed["happy"]["vector"] is None
    assert listed["calm"]["card"] is None


def test_zoo_json_names_packaged_vectors(no_model, monkeypatch, tmp_path):
    packaged = tmp_path / "with-trimtab"
    packaged.mkdir()
    (packaged / "happy.safetensors").touch()
    monkeypatch.setattr("trimtab.vectors.vector.PACKAGED", packaged)
    listed = {entry["name"]: entry["vector"] for entry in json.loads(no_model("zoo", "--json")[1])}
    assert listed["happy"] == str(packaged / "happy.safetensors")
    assert listed["calm"] is None


# One card


@pytest.mark.parametrize("report", [working(), not_working(), unmeasured()], ids=lambda report: report.verdict.word)
def test_zoo_card_shows_sentences_and_answers(no_model, tmp_path, report):
    write_cards(tmp_path, card_for("happy", report))
    code, out, _ = no_model("zoo", "card", "happy", "--folder", tmp_path)
    assert code == 0
    assert report.verdict.word in out
    flat = " ".join(out.split())
    for sentence in report.verdict.sentences:
        assert f"• {sentence}" in flat
    assert "How was your day?" in out
    assert "None" not in out


def test_zoo_card_json_equals_card(no_model, tmp_path):
    write_cards(tmp_path, card_for("happy"))
    _, out, _ = no_model("zoo", "card", "happy", "--folder", tmp_path, "--json")
    assert read_card(out, where="stdout") == read_card(card_json(card_for("happy")), where="file")


def test_zoo_card_missing_or_stale_is_error(no_model, tmp_path):
    write_cards(tmp_path, replace(card_for("calm"), digest="0" * 64))
    for name in ("happy", "calm"):
        code, out, err = no_model("zoo", "card", name, "--folder", tmp_path)
        assert (code, out) == (2, "")
        assert f"{name!r} has no card; measure it: trimtab zoo train {name}" in err


def test_zoo_card_unknown_behaviour_is_error(no_model):
    code, _, err = no_model("zoo", "card", "hapy")
    assert code == 2
    assert "did you mean 'happy'" in err


def test_zoo_broken_card_error_names_file(no_model, tmp_path):
    (tmp_path / "happy.json").write_text("{}")
    code, _, err = no_model("zoo", "card", "happy", "--folder", tmp_path)
    assert code == 2
    assert "happy.json is not a card: name: " in err


# Making vectors


def test_zoo_train_reports_failures_and_continues(run, small, trainings, tmp_path, tiny_llama):
    code, out, _ = run("zoo", "train", "happy", "formal", "calm", "--cards", tmp_path / "cards", "--json")
    assert code == 0
    made = {result["name"]: result for result in json.loads(out)}
    assert trainings == list(made) == ["happy", "formal", "calm"]
    assert made["formal"]["outcome"] == "failed: no strength spends 0.4 nat; try another model"
    assert sorted(path.name for path in (tmp_path / "cards").iterdir()) == ["calm.json", "happy.json"]
    for name in ("happy", "calm"):
        path = zoo_path(name, tiny_llama.info)
        assert made[name]["vector"] == str(path)
        vector = ControlVector.load(path)
        assert (vector.behaviour.name, vector.layers) == (name, (1, 2))
        assert vector.safe is not None
        assert made[name]["card"] == str(tmp_path / "cards" / f"{name}.json")
        card = read_card((tmp_path / "cards" / f"{name}.json").read_bytes(), where=name)
        assert (card.name, card.model, card.questions) == (name, "tiny llama", 4)
        assert card.digest == Behaviour.load(name).digest
        assert made[name]["outcome"] == card.word
        assert vector.safe == card.safe
    assert sorted(path.name for path in path.parent.iterdir()) == ["calm.safetensors", "happy.safetensors"]


def test_zoo_train_keeps_existing_and_makes_missing(run, small, trainings, tiny_llama):
    assert run("zoo", "train", "happy")[0] == 0
    vector = zoo_path("happy", tiny_llama.info)
    card = vector.parent / "cards" / "happy.json"  # beside the vectors, unless told otherwise
    first, word = card.read_bytes(), read_card(card.read_bytes(), where="card").word
    times = vector.stat().st_mtime_ns, card.stat().st_mtime_ns

    _, out, _ = run("zoo", "train", "happy")
    assert out == f"happy: kept: {word}\n"
    assert (vector.stat().st_mtime_ns, card.stat().st_mtime_ns) == times

    card.unlink()
    _, out, _ = run("zoo", "train", "happy")
    assert out == f"happy: {word}\n"
    assert card.read_bytes() == first
    assert trainings == ["happy"]

    run("zoo", "train", "happy", "--rebuild", "--no-measure")
    assert trainings == ["happy", "happy"]


def test_zoo_train_into_folder_fills_it(run, small, trainings, tmp_path):
    folders = ("--into", tmp_path / "zoo", "--cards", tmp_path / "cards")
    _, out, _ = run("zoo", "train", "happy", *folders, "--json")
    (made,) = json.loads(out)
    assert (made["vector"], made["card"]) == (
        str(tmp_path / "zoo" / "happy.safetensors"),
        str(tmp_path / "cards" / "happy.json"),
    )
    assert [path.name for path in (tmp_path / "zoo").iterdir()] == ["happy.safetensors"]
    assert not vectors_folder().exists()
    assert "kept" in run("zoo", "train", "happy", *folders)[1]
    assert trainings == ["happy"]
    run("zoo", "train", "happy", *folders, "--rebuild", "--no-measure")
    assert trainings == ["happy", "happy"]


def test_zoo_train_stale_card_is_measured_again(run, small, trainings, tiny_llama, tmp_path):
    run("zoo", "train", "happy", "--no-measure")
    card, kept = tmp_path / "happy.json", card_for("happy")
    stale = card_json(replace(kept, digest="0" * 64, model="tiny llama"))
    for broken_stale_or_another_s in (b"{", stale, card_json(kept)):
        card.write_bytes(broken_stale_or_another_s)
        _, out, _ = run("zoo", "train", "happy", "--cards", tmp_path)
        made = read_card(card.read_bytes(), where="card")
        assert made.model == "tiny llama"
        assert made.digest == Behaviour.load("happy").digest
        assert out == f"happy: {made.word}\n"
    assert trainings == ["happy"]


def test_zoo_train_no_measure_makes_only_vectors(run, trainings, tiny_llama):
    code, out, _ = run("zoo", "train", "happy", "--no-measure")
    assert (code, out) == (0, "happy: trained\n")
    folder = zoo_path("happy", tiny_llama.info).parent
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["happy.safetensors"]


def test_zoo_train_interrupt_continues(run, monkeypatch, tiny_llama):
    def stop(*_, **__):
        raise KeyboardInterrupt

    read: list[set] = []
    collect = type(tiny_llama).collect

    def noting(engine, texts, **options):
        read[-1].update(map(str, texts))
        return collect(engine, texts, **options)

    monkeypatch.setattr(type(tiny_llama), "collect", noting)
    path = zoo_path("happy", tiny_llama.info)
    read.append(set())
    with monkeypatch.context() as patch:
        patch.setattr(type(tiny_llama), "generate", stop)
        code, out, err = run("zoo", "train", "happy", "--no-measure")
    assert (code, out) == (130, "")
    assert "stopped; no file was left half-written" in err
    assert not path.exists()
    assert path.with_suffix(".sqlite").is_file()

    read.append(set())
    code, out, _ = run("zoo", "train", "happy", "--no-measure")
    assert (code, out) == (0, "happy: trained\n")
    assert path.is_file()
    assert not path.with_suffix(".sqlite").exists()
    assert len(read[0]) > 100
    assert not read[0] & read[1]  # what was read before it was interrupted is not read again


@pytest.mark.parametrize(
    ("options", "effort"), [((), "default"), (("--quick",), "quick"), (("--thorough",), "thorough")]
)
@pytest.mark.parametrize("verb", [("zoo", "train"), ("train",)], ids=" ".join)
def test_train_option_sets_effort(run, monkeypatch, verb, options, effort):
    efforts = []

    def note(*_, effort, **__):
        efforts.append(effort)
        raise CalibrationError("far enough", fix="stop")

    monkeypatch.setattr("trimtab.training.train.train", note)
    run(*verb, "happy", *options)
    assert efforts == [effort]
    code, _, err = run(*verb, "happy", "--quick", "--thorough")
    assert (code, efforts) == (2, [effort])
    assert "cannot be both quick and thorough" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "no behaviour is named; name some, or give --all"),
        (("happy", "hapy"), "did you mean 'happy'"),
    ],
)
def test_zoo_train_mistake_fails_before_loading(no_model, arguments, says):
    code, out, err = no_model("zoo", "train", *arguments)
    assert (code, out) == (2, "")
    assert says in err


def test_zoo_train_all_trains_each_behaviour(run, monkeypatch, tiny_llama):
    def fail(*_, **__):
        raise CalibrationError("not today", fix="wait")

    monkeypatch.setattr("trimtab.training.train.train", fail)
    code, out, _ = run("zoo", "train", "--all", "--json")
    assert code == 0
    assert [result["name"] for result in json.loads(out)] == list(zoo_names())
    assert {result["outcome"] for result in json.loads(out)} == {"failed: not today; wait"}
