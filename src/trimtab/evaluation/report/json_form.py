"""JSON form of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from trimtab.errors import EvaluationError
from trimtab.evaluation.records import Report

MAX_SHOWN = 3  # mistakes that an error names


def report_json(report: Report, *, run: bool = True) -> dict[str, Any]:
    """Return a report as plain JSON values; a number that is not finite becomes None.

    Args:
        report: The report.
        run: Include timing metadata, under ``"run"``. Without it two evaluations with the same seed are equal byte for
            byte.

    Example:
        >>> json.dumps(report_json(report), allow_nan=False)  # doctest: +SKIP
    """
    plain: dict[str, Any] = _plain(report)
    if not run:
        del plain["run"]
    return plain


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def report_of_json(data: Any) -> Report:
    """Return the report from values of ``report_json``.

    None in place of a required number becomes NaN again. Without ``"run"`` the timing metadata are empty.

    Raises:
        EvaluationError: The values are not those of a report.

    Example:
        >>> report_of_json(json.loads(Path("report.json").read_text()))  # doctest: +SKIP
    """
    if isinstance(data, Mapping):
        data = {"run": {"created": "", "seconds": {}, "making": {}}, **data}
    adapter = TypeAdapter(Report)
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        lost = [entry["loc"] for entry in error.errors() if entry["type"] == "float_type" and entry["input"] is None]
        if len(lost) < error.error_count():
            raise _unreadable(error) from None
    filled = deepcopy(data)
    for place in lost:
        _set(filled, place, math.nan)
    try:
        return adapter.validate_python(filled)
    except ValidationError as error:
        raise _unreadable(error) from None


def _set(data: Any, place: tuple[int | str, ...], value: float) -> None:
    for step in place[:-1]:
        data = data[step]
    data[place[-1]] = value


def _unreadable(error: ValidationError) -> EvaluationError:
    mistakes = [f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in error.errors(include_url=False)]
    more = f" and {len(mistakes) - MAX_SHOWN} more" if len(mistakes) > MAX_SHOWN else ""
    return EvaluationError(
        f"this is no report of an evaluation: {'; '.join(mistakes[:MAX_SHOWN])}{more}",
        fix="give the JSON that trimtab evaluate wrote",
    )
