"""Errors as clients see them: OpenAI's shape or Anthropic's, with what is wrong and what to do about it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from trimtab.errors import TrimtabError

LONGEST = 2_000  # characters of a message, which may quote the request
logger = logging.getLogger("trimtab.server")
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
}
MESSAGES = "/v1/messages"  # Anthropic's route; paths below it are Anthropic's too
MESSAGE_TYPES = {"server_error": "api_error", "conflict_error": "invalid_request_error"}  # where the names differ


class ErrorObject(BaseModel):
    """What is wrong with a request, or went wrong with its answer."""

    message: str
    type: str
    param: str | None
    code: str | None
    what: str
    fix: str | None


class ErrorBody(BaseModel):
    """Body of every answer that is an error."""

    error: ErrorObject


ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {  # of every route
    "4XX": {"model": ErrorBody, "description": "The request is not taken."},
    "5XX": {"model": ErrorBody, "description": "The server cannot answer."},
}


@final
class RequestError(TrimtabError):
    """Request that the server does not take.

    Args:
        problem: What is wrong, without a final full stop.
        fix: What the client can do about it.
        param: Field that is wrong.
        status: HTTP status.
        code: Short name of the error for programs.
        retry_after: Seconds after which the client may try again.
    """

    def __init__(
        self,
        problem: str,
        *,
        fix: str | None = None,
        param: str | None = None,
        status: int = 400,
        code: str = "invalid_request",
        retry_after: int | None = None,
    ) -> None:
        super().__init__(problem, fix=fix)
        self.http_status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after

    def about(self, param: str | None) -> RequestError:
        """Return the same error about another field."""
        return RequestError(
            self.problem,
            fix=self.fix,
            param=param,
            status=self.http_status,
            code=self.code,
            retry_after=self.retry_after,
        )


def error_json(error: TrimtabError) -> dict[str, Any]:
    """Return an error in OpenAI's shape."""
    return _shape(error.http_status, error.problem, fix=error.fix, param=getattr(error, "param", None), code=error.code)


def internal_error_json() -> dict[str, Any]:
    """Return what clients are told of a bug; the log has the rest."""
    return _shape(500, "the server failed", fix="its log says why", code="internal_error")


def shaped_for(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return an error in the shape that clients of a path know, given one in OpenAI's shape."""
    if path != MESSAGES and not path.startswith(f"{MESSAGES}/"):
        return body
    error = body["error"]
    return {"type": "error", "error": {**error, "type": MESSAGE_TYPES.get(error["type"], error["type"])}}


def _shape(status: int, what: str, *, fix: str | None = None, param: str | None = None, code: str) -> dict[str, Any]:
    what = what if len(what) <= LONGEST else f"{what[:LONGEST]}..."
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    message = f"{what}; {fix}" if fix else what
    return {"error": {"message": message, "type": kind, "param": param, "code": code, "what": what, "fix": fix}}


def add_error_handlers(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Have every error of an application answered in the shape of its path, and none with a traceback.

    Args:
        app: The application.
        routes: All of its routes.
    """

    def answer(
        request: Request, body: dict[str, Any], status: int, headers: Mapping[str, str] | None = None
    ) -> JSONResponse:
        return JSONResponse(shaped_for(request.scope["path"], body), status_code=status, headers=headers)

    async def refuse(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, TrimtabError)
        retry_after = getattr(error, "retry_after", None)
        headers = None if retry_after is None else {"retry-after": str(retry_after)}
        return answer(request, error_json(error), error.http_status, headers)

    async def explain(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return answer(request, error_json(error_of_validation(error)), 400)

    async def pass_on(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        fix = f"there is no {request.scope['path']}" if error.status_code == 404 else None
        headers = error.headers
        if error.status_code == 405:  # the error names the methods of the first route of the path alone
            headers = {"allow": ", ".join(sorted(_methods(routes, request.scope)))}
        body = _shape(error.status_code, str(error.detail).lower(), fix=fix, code=f"http_{error.status_code}")
        return answer(request, body, error.status_code, headers)

    async def fail(request: Request, error: Exception) -> JSONResponse:
        return answer(request, internal_error_json(), 500)  # whoever runs the application logs the error

    app.add_exception_handler(TrimtabError, refuse)
    app.add_exception_handler(RequestValidationError, explain)
    app.add_exception_handler(HTTPException, pass_on)
    app.add_exception_handler(Exception, fail)


def _methods(routes: Sequence[BaseRoute], scope: Scope) -> set[str]:
    """Return the methods of all routes of a path."""
    matching = [each for each in routes if isinstance(each, Route) and each.matches(scope)[0] is not Match.NONE]
    return {method for route in matching for method in route.methods or ()}


def _place(location: Sequence[int | str]) -> str | None:
    """Return a place in the body, without the names of types that pydantic adds where a field may have several."""
    names = [str(part) for part in location if isinstance(part, int) or part.isidentifier()]
    return ".".join(name for name in names if not name[0].isupper() and name not in ("str", "dict", "list")) or None


def error_of_validation(error: RequestValidationError) -> RequestError:
    """Return the first of a body's mistakes, with its place; of a field that may have several forms, the nearest."""
    mistakes = error.errors()
    field = mistakes[0]["loc"][:2]
    first = max((each for each in mistakes if each["loc"][:2] == field), key=lambda each: len(each["loc"]))
    kind, param = first["type"], _place(first["loc"][1:])
    if kind == "extra_forbidden":
        return RequestError(f"there is no field {param!r}", fix="leave it out", param=param, code="unknown_field")
    if kind == "missing":
        return RequestError(f"the field {param!r} is missing" if param else "the body is missing", param=param)
    if kind == "json_invalid":
        return RequestError("the body is not JSON", fix="check its brackets and quotes", code="invalid_json")
    where = f"{param}: " if param else "the body: "
    return RequestError(f"{where}{first['msg'][:1].lower()}{first['msg'][1:]}", param=param)
