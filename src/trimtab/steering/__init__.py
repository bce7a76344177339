"""Steering: what to apply in one request."""

from trimtab.steering.compiled import NONE, CompiledSteering
from trimtab.steering.conditions import AllOf, AnyOf, Comparison, Condition, FalsePositives, Not
from trimtab.steering.operators import Ablate, Add, Bound, Cap, Clamp, Floor, Operator, Rotate
from trimtab.steering.scopes import Part, Schedule, Scope
from trimtab.steering.steering import RowsLike, Steering, SteeringLike
from trimtab.steering.term import Term

__all__ = [
    "NONE",
    "Ablate",
    "Add",
    "AllOf",
    "AnyOf",
    "Bound",
    "Cap",
    "Clamp",
    "Comparison",
    "CompiledSteering",
    "Condition",
    "FalsePositives",
    "Floor",
    "Not",
    "Operator",
    "Part",
    "Rotate",
    "RowsLike",
    "Schedule",
    "Scope",
    "Steering",
    "SteeringLike",
    "Term",
]
