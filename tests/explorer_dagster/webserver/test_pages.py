"""The pages of the documentation beside the Dagster UI: what assets link to is there, and nothing outside of the folder."""

from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from explorer_dagster.documentation import documentation
from explorer_dagster.webserver.pages import Documentation

ROOT = Path(__file__).parents[3]


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    docs = tmp_path / "docs"
    (docs / "more").mkdir(parents=True)
    (docs / "tables.md").write_text("# Tables\n\n### What `lands` where\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")
    (docs / "more" / "picture.svg").write_text("<svg/>")
    (tmp_path / "secret").write_text("s")
    (docs / "link").symlink_to(tmp_path / "secret")
    return TestClient(Documentation(PlainTextResponse("the app"), docs))


def test_a_page_has_its_headings_as_places_and_its_tables_as_tables(client: TestClient) -> None:
    page = client.get("/documentation/tables.md")
    assert page.headers["content-type"].startswith("text/html")
    assert '<h3 id="what-lands-where">' in page.text
    assert "<td>1</td>" in page.text
    assert client.get("/documentation/more/picture.svg").text == "<svg/>"


@pytest.mark.parametrize("path", ["gone.md", "", "%2e%2e/secret", "link", "more", "%00.md", "a" * 300])
def test_what_is_no_page_of_the_folder_is_not_there(client: TestClient, path: str) -> None:
    assert client.get(f"/documentation/{path}").status_code == 404


def test_all_else_is_for_the_app(client: TestClient) -> None:
    assert client.get("/assets").text == "the app"


def test_links_of_assets_lead_to_a_heading() -> None:
    link = documentation("tables.md", "cases")["documentation"].value
    page = TestClient(Documentation(PlainTextResponse("the app"), ROOT / "docs")).get(link.partition("#")[0])
    assert f'id="{link.partition("#")[2]}"' in page.text
    assert documentation("tables.md", "no such table") == documentation("gone.md", "cases") == {}
