"""The web page: files that come with trimtab, under a strict content security policy."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Request
from fastapi.responses import Response

from trimtab.server.errors import RequestError

router = APIRouter(include_in_schema=False)
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
    "/first.json": ("first.json", "application/json"),
    "/assets/app.js": ("assets/app.js", "text/javascript; charset=utf-8"),
    "/assets/app.css": ("assets/app.css", "text/css; charset=utf-8"),
}
# Nothing from elsewhere, nothing inline: whatever a model writes can never become a script, a style or a request.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}


def _file(path: str) -> Response:
    name, media_type = FILES[path]
    content = (files("trimtab.server") / "web" / name).read_bytes()
    return Response(content, media_type=media_type, headers=HEADERS)


@router.get("/")
@router.get("/favicon.svg")
@router.get("/first.json")
def get_page(request: Request) -> Response:
    """Return the page, its icon, or the answers that a first visit shows."""
    return _file(request.scope["path"])  # url would be put together from Host


@router.get("/assets/{name}")
def get_asset(name: str) -> Response:
    """Return a script or a style sheet of the page.

    Raises:
        RequestError: There is none of this name.
    """
    path = f"/assets/{name}"
    if path not in FILES:
        raise RequestError("there is no such file", fix="see / for the page", status=404, code="not_found")
    return _file(path)
