from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from support.loading import load_model
from support.paths import DIGITS, ROOT
from support.serving import Running, running

PAGE = ROOT / "src" / "stt" / "serve" / "page"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(lambda: load_model(DIGITS, precision="fp32", provider="cpu")) as server:
        yield server


@pytest.mark.parametrize("name", sorted(path.name for path in PAGE.iterdir()))
def test_each_file_is_there_with_its_type_and_may_be_kept(server: Running, name: str) -> None:
    with server.client() as client:
        first = client.get(f"/page/{name}")
        assert first.content == (PAGE / name).read_bytes()
        kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/"}
        assert first.headers["content-type"].startswith(kinds[name.rpartition(".")[2]])
        again = client.get(f"/page/{name}", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_the_page_may_do_nothing_but_what_is_its_own(server: Running) -> None:
    with server.client() as client:
        answer = client.get("/")
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
    )
    host = server.url.removeprefix("http://")
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["connect-src"] == f"'self' ws://{host} wss://{host}"
    assert policy["frame-ancestors"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_host_that_is_none_is_not_in_the_policy(server: Running) -> None:
    with server.client() as client:
        answer = client.get("/", headers={"host": "a; script-src *"})
    assert "script-src *" not in answer.headers.get("content-security-policy", "")


@pytest.mark.parametrize(
    "name", ["../app.py", "..%2fapp.py", "no.js", "%2e%2e/page.py", "index.html/"]
)
def test_nothing_else_is_given_away(server: Running, name: str) -> None:
    with server.client() as client:
        assert client.get(f"/page/{name}", follow_redirects=False).status_code in (307, 404)


def test_it_needs_no_key_and_the_rest_does() -> None:
    with running(lambda: load_model(DIGITS), api_key="secret") as server, server.client() as client:
        assert client.get("/").status_code == 200
        assert client.get("/page/app.js").status_code == 200
        assert client.get("/v1/models").status_code == 401


class References(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.found += [v for k, v in values.items() if k in ("src", "href") and v]
        self.inline += [k for k in values if k == "style" or k.startswith("on")]


def test_it_asks_for_its_own_files_alone_and_has_nothing_inline() -> None:
    parser = References()
    parser.feed((PAGE / "index.html").read_text("utf-8"))
    own = {f"page/{path.name}" for path in PAGE.iterdir()}
    assert {one for one in parser.found if not one.startswith("#")} <= own
    assert not parser.inline
    for path in PAGE.glob("*.js"):
        text = path.read_text("utf-8")
        imported = re.findall(r'from "\./([^"]+)"', text)
        assert {f"page/{name}" for name in imported} <= own
        assert not re.search(r"https?://|eval\(|innerHTML|document\.write", text), path.name
    for path in PAGE.iterdir():
        assert len(path.read_text("utf-8").splitlines()) <= 350, path.name
