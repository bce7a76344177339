"""The web page: its files, and what the browser is told about them."""

import gzip
import re
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from trimtab.engines.fake import FakeEngine
from trimtab.server.app import create_app
from trimtab.server.keys import Key, new_key
from trimtab.server.page import FILES
from trimtab.server.settings import ServerSettings


@pytest.mark.parametrize("path", FILES)
def test_files_under_strict_policy(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.content
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_page_names_only_own_files(client: TestClient) -> None:
    page = client.get("/").text
    assert "://" not in page
    assert "<style" not in page
    assert " style=" not in page


@pytest.mark.parametrize("name", ["..%2Fapp.py", "%2e%2e/page.py", "index.html", "app.js.map", "a" * 2_000])
def test_other_files_are_not_found(client: TestClient, name: str) -> None:
    assert client.get(f"/assets/{name}").status_code == 404


def test_page_needs_no_key(fake: FakeEngine) -> None:
    _, digest = new_key()
    app = create_app(fake, ServerSettings(model="fake"), keys=[Key(name="one", digest=bytes.fromhex(digest))])
    client = TestClient(app, base_url="http://localhost")
    assert client.get("/").status_code == 200
    assert client.get("/v1/info").status_code == 401


def test_script_is_small_and_names_no_address_outside(client: TestClient) -> None:
    script = client.get("/assets/app.js").content
    assert len(gzip.compress(script, 9)) <= 60_000
    hosts = {urlsplit(url).hostname for url in re.findall(r"https?://[^\s\"'`)\\]+", script.decode())}
    # Namespaces of elements are no requests; the other two are in code for the user's application.
    assert hosts <= {"www.w3.org", "127.0.0.1", "localhost"}


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, {"host": "127.0.0.1:1@evil.example"}, {"origin": "http://evil.example"}]
)
def test_page_is_not_given_to_others(client: TestClient, path: str, headers: dict[str, str]) -> None:
    answer = client.get(path, headers=headers)
    assert answer.status_code in (400, 403)
    assert answer.json()["error"]["code"] in ("bad_host", "bad_origin")
