"""Cards: a report in short."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from evaluation.sample_report import every_report, not_working, safe_range, sweep, working, written_at
from trimtab import Behaviour
from trimtab.errors import EvaluationError
from trimtab.evaluation.cards import card_json, card_json_values, card_of, read_card, shortfalls, zoo_cards


@pytest.mark.parametrize("report", every_report().values(), ids=every_report())
def test_card_file_round_trip_is_equal(report):
    card = card_of(report)
    back = read_card(card_json(card), where="here")
    assert back.name == card.name
    assert back.word == report.verdict.word
    assert card_json(back) == card_json(card)


def test_card_of_equals_report():
    report = working()
    card = card_of(report)
    vector = report.interventions[0]
    assert card.swing == vector.swing
    assert card.effect["+"] == vector.sides["+"].effect
    assert card.safe == report.safe
    assert card.written == {name: at.effect for name, at in report.written.items()}
    assert card.halves["-"] == vector.sides["-"].halves
    assert card.ceiling == report.ceiling
    low, high = report.point(report.safe.low), report.point(report.safe.high)
    assert card.cost["-"].perplexity_ratio == low.damage.perplexity_ratio
    assert card.cost["+"].accuracy_change == high.damage.accuracy_change
    turn = [report.point(strength).answers[0] for strength in (-0.5, 0.0, 0.5)]
    assert [card.samples[0].minus, card.samples[0].base, card.samples[0].plus] == turn


def test_card_json_numbers_have_four_decimals():
    values = json.loads(card_json(card_of(working())))

    def numbers(value):
        if isinstance(value, float):
            yield value
        elif isinstance(value, dict):
            for inner in value.values():
                yield from numbers(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from numbers(inner)

    found = list(numbers(values))
    assert len(found) > 20
    assert all(round(number, 4) == number for number in found)


def test_read_card_malformed_names_the_place():
    broken = json.loads(card_json(card_of(working())))
    broken["budget"] = "far"
    with pytest.raises(EvaluationError, match=r"here is not a card: budget"):
        read_card(json.dumps(broken), where="here")


def test_zoo_cards_of_changed_behaviours_are_left_out(tmp_path):
    now = Behaviour.load("happy").digest
    card = replace(card_of(working()), name="happy", digest=now)
    (tmp_path / "happy.json").write_bytes(card_json(card))
    assert list(zoo_cards(tmp_path)) == ["happy"]
    (tmp_path / "happy.json").write_bytes(card_json(replace(card, digest="of another time")))
    assert not zoo_cards(tmp_path)


def test_card_at_closed_end_of_safe_range_costs_nothing():
    safe = safe_range(0.0)
    card = card_of(working(safe=safe, sweep=sweep(safe=safe)))
    assert card.cost["-"].kl == 0.0
    assert card.cost["-"].accuracy_change is None
    assert card.samples[0].minus == card.samples[0].base


def test_card_without_new_fields_is_read():
    values = card_json_values(card_of(working()))
    for name in ("safe", "written", "halves", "ceiling", "refuses_harmful"):
        del values[name]
    card = read_card(json.dumps({**values, "tolerable": {}, "low": -1.0}), where="here")
    assert card.safe is None
    assert card.times_prompt("default") is None


def test_shortfalls_name_each_weakness():
    good, bad = card_of(working()), card_of(not_working())
    assert shortfalls(good) == ()
    assert "neither way beyond chance" in shortfalls(bad)
    half = replace(
        good,
        clear={"+": True, "-": False},
        shuffled=9.0,
        written={"safe": written_at(0.1, -0.1).effect},
        promptable=False,
    )
    assert shortfalls(half) == (
        "system prompts do not move this model along it either",
        "towards gloomy within chance",
        "shuffled labels do as well",
        "system prompts do more",
    )
    closed = replace(good, clear={"+": True, "-": False}, safe=safe_range(0.0))
    assert shortfalls(closed) == ("towards gloomy the text holds together nowhere",)
