"""Steering: what to apply in one request."""

from trimtab.steering.expression import ExpressionTerm, parse_expression
from trimtab.steering.steering import RowsLike, Steering, SteeringLike, Term

__all__ = ["ExpressionTerm", "RowsLike", "Steering", "SteeringLike", "Term", "parse_expression"]
