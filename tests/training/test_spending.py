"""What a mix really spends, beside the prediction."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sample_vectors import calibration_record
from tiny_models import vector_for
from trimtab import Steering, Term, measure_spending
from trimtab.errors import SteeringError, StrongSteeringWarning
from trimtab.steering import Ablate


@pytest.mark.slow
def test_spending_measured_is_near_predicted(happy, smollm2):
    """On the default model, for a vector in two parts, and for its other sign at half strength."""
    for mix in ([(happy, 0.7), (happy, 0.3)], [(happy, -0.5)]):
        spent = measure_spending(smollm2, mix, prompts=5)
        assert spent.measured == pytest.approx(spent.predicted, rel=0.4)


@pytest.mark.slow
def test_spending_of_rescaled_mix_equals_budget(happy, smollm2):
    spent = measure_spending(smollm2, Steering.of([(happy, 3.0)]).normalized(0.2), prompts=5)
    assert spent.predicted == pytest.approx(0.2)
    assert spent.measured == pytest.approx(0.2, rel=0.4)


def test_spending_uncalibrated_is_measured_not_predicted(tiny_llama):
    vector = vector_for(tiny_llama)
    spent = measure_spending(tiny_llama, [(vector, 1.0), Term(vector, operator=Ablate())], prompts=2)
    assert spent.predicted is None
    assert spent.measured > 0
    assert spent.prompts == 2


def test_spending_of_scopes_and_conditions_raises(tiny_llama):
    with pytest.raises(SteeringError, match="measure_kl"):
        measure_spending(tiny_llama, Steering((Term(vector_for(tiny_llama), 1.0, tokens="generated"),)))


def test_spending_above_usable_range_warns(tiny_llama):
    strong = replace(vector_for(tiny_llama), calibration=calibration_record())
    with pytest.warns(StrongSteeringWarning, match="predicted to spend"):
        tiny_llama.generate("Hello", steering=[(strong, 3.0)], max_new_tokens=2)
    tiny_llama.generate("Hello", steering=[(strong, 3.0)], normalize=0.4, max_new_tokens=2)
