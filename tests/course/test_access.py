"""What axe-core finds on the site's pages, rendered without Quarto, in both themes and at two widths."""

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import skip_without_chromium
from rendered import rendered

from vqbet_course.course.site import EXECUTED, stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
skip_without_chromium()

PAGES = (
    "index.ipynb",
    "00_first_push.ipynb",
    "02_residual_vq.ipynb",
    "glossary.ipynb",
    "results.ipynb",
    "api/tokens.qmd",
    "commands/eval.qmd",
    "solutions/05_heads.md",
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The staged site, its pages as HTML beside their sources; lessons with outputs where they have run."""
    out = tmp_path_factory.mktemp("access") / "pages"
    stage(EXECUTED, out)
    for name in PAGES:
        (out / name).with_suffix(".html").write_text(rendered(out / name))
    return out


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 390])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(browser: Any, pages: Path, name: str, width: int, theme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce")
    page.goto((pages / name).with_suffix(".html").as_uri())
    found = Axe().run(page).response["violations"]
    serious = {
        violation["id"]: [node["html"][:160] for node in violation["nodes"][:3]]
        for violation in found
        if violation["impact"] in ("serious", "critical")
    }
    assert not serious
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()
