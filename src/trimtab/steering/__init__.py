"""Steering: what to apply in one request."""

from trimtab.steering.expression import ExpressionTerm, parse_expression
from trimtab.steering.steering import Steering, SteeringLike, Term

__all__ = ["ExpressionTerm", "Steering", "SteeringLike", "Term", "parse_expression"]
