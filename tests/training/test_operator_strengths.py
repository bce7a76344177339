"""The scale of strength 1 for operators other than adding."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import trimtab
from trimtab import Behaviour
from trimtab.behaviours import neutral_prompts
from trimtab.errors import CalibrationError
from trimtab.steering import Add, Rotate, Term
from trimtab.steering.compiled import LayerAdd, LayerRotate, compile_terms
from trimtab.training.calibrate import TOLERANCE, changes_of
from trimtab.training.progress import ignore
from trimtab.training.questions import ANSWER_TOKENS, KL_QUESTIONS, KlSet, ask

OPERATORS = {"rotate": Rotate(), "add_preserving_norm": Add(preserve_norm=True)}


@pytest.fixture(scope="module")
def vector(tiny_llama, random_vector):
    return random_vector(tiny_llama, layers=[1, 2])


@pytest.mark.parametrize("operator", OPERATORS)
def test_each_sign_spends_the_budget_under_the_operator(tiny_llama, vector, operator):
    calibrated = trimtab.calibrate(tiny_llama, vector, operator=operator, budget=0.2)
    scale = calibrated.operator_scales[operator]
    prompts = neutral_prompts().calibration[:KL_QUESTIONS]
    questions = ask(tiny_llama, prompts, None, personas=0, max_new_tokens=ANSWER_TOKENS, progress=ignore)
    kl = KlSet(tiny_llama, questions)
    for sign, key in ((1.0, "+"), (-1.0, "-")):
        steering = compile_terms([Term(calibrated, sign, operator=OPERATORS[operator])])
        spent = kl.measure(steering.changes)
        assert spent == pytest.approx(0.2, rel=TOLERANCE + 1e-3)
        assert scale[key] > 0


@pytest.mark.parametrize("operator", OPERATORS)
def test_calibrate_operator_changes_only_its_scale(tiny_llama, vector, operator):
    calibrated = trimtab.calibrate(tiny_llama, vector, operator=operator, budget=0.2)
    for name in ("scale", "weights", "norms", "calibration", "neutral", "reader", "fits", "behaviour", "method"):
        assert getattr(calibrated, name) == getattr(vector, name), name
    assert list(calibrated.operator_scales) == [operator]
    both = trimtab.calibrate(tiny_llama, calibrated, operator=operator, budget=0.3)
    assert both.operator_scales[operator]["+"] > calibrated.operator_scales[operator]["+"]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_operator_strength_one_applies_calibrated_scale(vector, sign):
    scale = {"+": 0.3, "-": 0.4}
    for name, operator in OPERATORS.items():
        calibrated = dataclasses.replace(vector, operator_scales={name: scale})
        meant = compile_terms([Term(calibrated, sign, operator=operator)]).terms[0].changes
        tried = changes_of(vector, name, sign * scale["+" if sign > 0 else "-"])
        assert list(tried) == list(meant)
        for layer, (change,) in tried.items():
            assert type(change) is type(meant[layer])
            for field in dataclasses.fields(change):
                expected = getattr(meant[layer], field.name)
                np.testing.assert_allclose(getattr(change, field.name), expected, rtol=1e-6)


def test_rotate_is_weighted_radians_and_push_is_in_norms(vector):
    for layer, (change,) in changes_of(vector, "rotate", -0.5).items():
        assert isinstance(change, LayerRotate)
        assert change.radians == pytest.approx(-0.5 * vector.weights[layer])
    for layer, (change,) in changes_of(vector, "add_preserving_norm", 0.5).items():
        assert isinstance(change, LayerAdd)
        assert change.preserve_norm
        assert np.linalg.norm(change.added) == pytest.approx(
            0.5 * vector.weights[layer] * vector.norms[layer], rel=1e-4
        )


def test_rotate_unable_to_spend_budget_is_refused(tiny_llama, random_vector):
    feeble = dataclasses.replace(random_vector(tiny_llama, layers=[1]), weights={1: 1e-14})
    with pytest.raises(CalibrationError, match="no strength spends"):
        trimtab.calibrate(tiny_llama, feeble, operator="rotate", budget=5.0)


def test_calibrate_operator_invalid_options_are_refused(tiny_llama, vector):
    for operator in ("ablate", "clamp", "dance"):
        with pytest.raises(CalibrationError, match="no strength to calibrate"):
            trimtab.calibrate(tiny_llama, vector, operator=operator)
    with pytest.raises(CalibrationError, match="own layers"):
        trimtab.calibrate(tiny_llama, vector, operator="rotate", layers=[1])
    with pytest.raises(CalibrationError, match="own layers"):
        trimtab.calibrate(tiny_llama, vector, operator="rotate", behaviour=Behaviour.load("happy"))
    with pytest.raises(CalibrationError, match="makes no sense"):
        trimtab.calibrate(tiny_llama, vector, operator="rotate", budget=math.nan)


def test_calibrate_at_other_layers_drops_operator_scales(tiny_llama, vector):
    known = dataclasses.replace(vector, operator_scales={"rotate": {"+": 0.1, "-": 0.1}})
    assert trimtab.calibrate(tiny_llama, known, layers=[2], check=False).operator_scales == {}
    kept = trimtab.calibrate(tiny_llama, known, check=False).operator_scales
    assert kept == known.operator_scales
