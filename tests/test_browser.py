"""The lessons as their readers meet them: JupyterLab in a real Chromium, driven by keyboard."""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import REPO

from vqbet_course.course import as_html, lesson_environment

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SHOTS = REPO / "_runs" / "browser"
WAIT_MS = 120_000
MOVES = """from vqbet_course import widgets
from vqbet_course.demos import load_demos
from vqbet_course.train import load_run

moves = widgets.moves_of(load_run("shipped"), load_demos("demo").select(range(10)))
widgets.move_explorer(moves)"""

if CHROMIUM is None and os.environ.get("VQBET_BROWSER") != "required":
    pytest.skip("no Chromium here: install it (Debian: apt-get install chromium)", allow_module_level=True)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """JupyterLab as `make jupyter` starts it, over a copy of the lessons; its address, and the copy."""
    root = tmp_path_factory.mktemp("lab")
    shutil.copytree(REPO / "nbs", root / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    kernel = {"name": "python3", "display_name": "python3"}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(MOVES)], metadata={"kernelspec": kernel})
    nbformat.write(notebook, root / "nbs" / "moves.ipynb")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = f"--no-browser --port {port} --IdentityProvider.token= --LabApp.expose_app_in_browser=True"
    with lesson_environment(), open(root / "log", "w") as log:
        server = subprocess.Popen(
            ["make", "-f", REPO / "Makefile", "-o", "fresh", "jupyter", "READY=fresh", f"BIN={Path(sys.executable).parent}",
             f"ARGS={options}"], cwd=root, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(f"http://127.0.0.1:{port}/api", server, root / "log")
            yield f"http://127.0.0.1:{port}/lab/tree/nbs", root / "nbs"
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"JupyterLab did not start\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def opened(browser: Any, url: str, name: str) -> Any:
    """A page on a notebook whose kernel is ready."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(WAIT_MS)
    page.goto(f"{url}/{name}?reset")  # without the notebooks that another page has open
    page.wait_for_function("""name => { const shown = window.jupyterapp?.shell.currentWidget;
        return shown?.context?.path.endsWith(name) && shown.sessionContext.session?.kernel?.status === 'idle'; }""", arg=name)
    return page


def run_all(page: Any) -> list[dict[str, Any]]:
    """Run all cells; of each code cell its source, execution count and errors."""
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    return page.evaluate("""() => [...window.jupyterapp.shell.currentWidget.content.model.cells]
        .map((cell, at) => ({cell, at})).filter(({cell}) => cell.type === 'code')
        .map(({cell, at}) => ({at, source: cell.sharedModel.source, count: cell.executionCount,
            errors: cell.outputs.toJSON().filter(output => output.output_type === 'error').map(output => output.evalue)}))""")


def go_to(page: Any, cell: int) -> None:
    """Scroll a cell into view."""
    page.evaluate("""async at => { const notebook = window.jupyterapp.shell.currentWidget.content;
        notebook.activeCellIndex = at; await notebook.scrollToItem(at, 'start'); }""", cell)


def shot(page: Any, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")


@pytest.fixture(scope="module")
def tokens(browser: Any, lab: tuple[str, Path]) -> tuple[Any, list[dict[str, Any]]]:
    """Lesson 01 in the browser, with all its cells run."""
    page = opened(browser, lab[0], "01_tokens.ipynb")
    return page, run_all(page)


@pytest.mark.timeout(600)
def test_lesson_01_runs_all_cells(tokens: tuple[Any, list[dict[str, Any]]]) -> None:
    page, cells = tokens
    assert not [cell for cell in cells if cell["errors"]]
    assert all(cell["count"] for cell in cells if cell["source"].strip())
    shot(page, "lesson_01")


def test_a_slider_moves_by_keyboard_and_the_picture_changes(tokens: tuple[Any, list[dict[str, Any]]]) -> None:
    page, cells = tokens
    go_to(page, next(cell["at"] for cell in cells if "token_usage_explorer(" in cell["source"]))
    handle = page.locator(".jp-OutputArea .noUi-handle").first
    picture = page.locator('img[alt^="Use of the codebook"]').first
    assert "of 16 codes used" in picture.get_attribute("alt")
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector('img[alt*="of 32 codes used"]')
    shot(page, "slider_moved")


@pytest.mark.timeout(600)
def test_a_cell_of_the_heat_map_is_chosen_by_keyboard(browser: Any, lab: tuple[str, Path]) -> None:
    page = opened(browser, lab[0], "moves.ipynb")
    assert not run_all(page)[0]["errors"]
    picture = page.locator('img[alt^="Heat map"]')
    before = pair_of(picture.get_attribute("alt"))
    for slider, key in ((0, "ArrowLeft"), (1, "ArrowRight")):
        page.locator(".noUi-handle").nth(slider).focus()
        page.keyboard.press(key)
    page.wait_for_selector(f'img[alt*="pair ({before[0] - 1}, {before[1] + 1})"]')
    shot(page, "heat_map")


def pair_of(alt: str) -> tuple[int, int]:
    found = re.search(r"pair \((\d+), (\d+)\)", alt)
    assert found is not None
    return int(found[1]), int(found[2])


def test_the_executed_lesson_shows_every_static_picture(browser: Any, lab: tuple[str, Path], tokens: tuple[Any, Any]) -> None:
    tokens[0].evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    notebook = nbformat.read(lab[1] / "01_tokens.ipynb", as_version=4)
    pictures = sum("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ()))
    path = lab[1] / "01_tokens.html"
    path.write_text(as_html(notebook, "01 · Tokens"))
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    page.route(re.compile("^https?:"), lambda route: route.abort())  # no network
    page.goto(path.as_uri())
    sizes = page.eval_on_selector_all(".jp-RenderedImage img", "images => images.map(image => image.naturalWidth)")
    assert pictures and len(sizes) == pictures and all(size > 100 for size in sizes)
    page.screenshot(path=SHOTS / "executed.png", full_page=True)
