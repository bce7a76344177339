"""Cards: a report in short."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from evaluation.sample_report import every_report, not_working, working
from trimtab import Behaviour
from trimtab.errors import EvaluationError
from trimtab.evaluation.cards import card_json, card_of, read_card, shortfalls, zoo_cards
from trimtab.vectors import Interval


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
    assert card.cost["-"].perplexity_ratio == vector.sides["-"].damage.perplexity_ratio
    assert card.samples[0].base == report.base.answers[0]
    assert card.samples[0].plus == vector.sides["+"].answers[0]


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
    broken["low"] = "far"
    with pytest.raises(EvaluationError, match=r"here is not a card: low"):
        read_card(json.dumps(broken), where="here")


def test_zoo_cards_of_changed_behaviours_are_left_out(tmp_path):
    now = Behaviour.load("happy").digest
    card = replace(card_of(working()), name="happy", digest=now)
    (tmp_path / "happy.json").write_bytes(card_json(card))
    assert list(zoo_cards(tmp_path)) == ["happy"]
    (tmp_path / "happy.json").write_bytes(card_json(replace(card, digest="of another time")))
    assert not zoo_cards(tmp_path)


def test_shortfalls_name_each_weakness():
    good, bad = card_of(working()), card_of(not_working())
    assert shortfalls(good) == ("knows 6% fewer facts at -1",)
    assert "neither way beyond chance" in shortfalls(bad)
    good = replace(good, cost=dict.fromkeys("+-", good.cost["+"]))
    assert shortfalls(good) == ()
    half = replace(good, clear={"+": True, "-": False}, shuffled=9.0, prompt_equivalents=0.5, promptable=False)
    assert shortfalls(half) == (
        "system prompts do not move this model along it either",
        "towards gloomy within chance",
        "shuffled labels do as well",
        "system prompts do more",
    )
    dear = replace(good.cost["+"], accuracy_change=Interval(-0.08, -0.1, -0.06), relevance_change=-0.2)
    reasons = shortfalls(replace(good, cost={**good.cost, "+": dear}))
    assert reasons == ("knows 8% fewer facts at +1", "answers drift from the question at +1")
    assert shortfalls(replace(good, cost=dict.fromkeys("+-", dear)))[-1] == "answers drift from the question"
