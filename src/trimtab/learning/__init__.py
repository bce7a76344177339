"""Learning: from pairs of hidden states to a calibrated control vector."""

from trimtab.learning.calibrating import calibrate
from trimtab.learning.distilling import distill
from trimtab.learning.estimators import ESTIMATORS, Estimator
from trimtab.learning.progress import OnProgress, Progress
from trimtab.learning.readers import fit_reader, fit_threshold
from trimtab.learning.spending import Spending, measure_spending
from trimtab.learning.training import train

__all__ = [
    "ESTIMATORS",
    "Estimator",
    "OnProgress",
    "Progress",
    "Spending",
    "calibrate",
    "distill",
    "fit_reader",
    "fit_threshold",
    "measure_spending",
    "train",
]
