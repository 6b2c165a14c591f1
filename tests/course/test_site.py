"""What Quarto would complain of, without Quarto: configuration, pages, links, terms, cell options, outputs."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from conftest import REPO

from vqbet_course.course.site import EXECUTED, documented, stage, staged

LESSONS = sorted(path.name for path in (REPO / "nbs").glob("[0-9]*.ipynb"))
OPTIONS = {"fig-alt", "code-fold", "code-summary"}
CONFIG = yaml.safe_load((REPO / "_quarto.yml").read_text())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the repository's, with the pages staged in it as long as no lesson has run."""
    root = tmp_path_factory.mktemp("site")
    unexecuted = stage(root / "nothing", root / "pages")
    assert unexecuted == [name.removesuffix(".ipynb") for name in LESSONS], "each of them is named"
    return root


def notebooks(site: Path) -> list[Path]:
    return sorted((site / "pages").glob("*.ipynb"))


def texts(path: Path) -> Iterator[str]:
    """The Markdown of a page."""
    if path.suffix == ".qmd":
        yield re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    else:
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "markdown":
                yield re.sub(r"```.*?```|`[^`\n]*`", "", "".join(cell["source"]), flags=re.DOTALL)


def sidebar_entries(contents: list[Any]) -> Iterator[str]:
    for entry in contents:
        if isinstance(entry, str):
            yield entry
        else:
            assert set(entry) == {"section", "contents"}
            yield from sidebar_entries(entry["contents"])


def identifiers(path: Path) -> set[str]:
    """What pandoc calls the headings of a page."""
    headings = [line for text in texts(path) for line in re.findall(r"^#+ +(.+)$", text, re.MULTILINE)]
    plain = (re.sub(r"[^\w\s.-]", "", heading.lower()) for heading in headings)
    return {re.sub(r"^[^a-z]+", "", re.sub(r"\s+", "-", heading.strip())) for heading in plain}


def test_every_entry_of_the_configuration_exists(site: Path) -> None:
    entries = [
        *CONFIG["project"]["render"],
        *sidebar_entries(CONFIG["website"]["sidebar"]["contents"]),
        CONFIG["website"]["image"].removeprefix("/"),
    ]
    assert not [entry for entry in entries if not list(site.glob(entry))]


def test_every_page_is_rendered_and_every_lesson_is_in_the_sidebar(site: Path) -> None:
    rendered = {path for entry in CONFIG["project"]["render"] for path in site.glob(entry)}
    written = [*(site / "pages" / "api").glob("*.qmd"), *(site / "pages" / "solutions").glob("*.md")]
    assert rendered == {*notebooks(site), *written}
    listed = [Path(entry).name for entry in sidebar_entries(CONFIG["website"]["sidebar"]["contents"])]
    assert [name for name in listed if name in LESSONS] == LESSONS
    assert len(set(listed)) == len(listed) == len(notebooks(site)) + 1  # and the reference


def test_every_link_resolves_to_a_page_and_a_heading(site: Path) -> None:
    pages = [*notebooks(site), *(site / "pages" / "api").glob("*.qmd")]
    broken = []
    for page in pages:
        for target in re.findall(r"\]\(([^)\s]+)\)", "\n".join(texts(page))):
            file, _, anchor = target.partition("#")
            if re.match(r"\w+:", target):
                continue
            path = page.parent / file if file else page
            if not path.exists() or (anchor and anchor not in identifiers(path)):
                broken.append(f"{page.name}: {target}")
    assert not broken


def test_no_text_reads_as_something_else_to_pandoc(site: Path) -> None:
    """Citations, divs, shortcodes, attributes and footnotes would be looked up, and warned of; raw HTML is balanced."""
    special = re.compile(r"(?<![\w.])@\w|^:::|\{\{<|\]\{|\[\^|<(?:div|span|script|style)\b", re.MULTILINE)
    for page in [*notebooks(site), *(site / "pages" / "api").glob("*.qmd")]:
        text = "\n".join(texts(page))
        assert not special.findall(text), page.name
        for tag in ("details", "summary", "code", "b"):
            assert len(re.findall(f"<{tag}>", text)) == len(re.findall(f"</{tag}>", text)), (page.name, tag)


@pytest.mark.fast
def test_every_list_is_one_to_pandoc() -> None:
    """Jupyter lets a list begin right below a line of prose; to pandoc it is then part of that line."""
    item, first = re.compile(r"(?:-|\*|\d+\.) "), re.compile(r"(?:-|\*|1\.) ")
    for path in (REPO / "nbs").glob("*.ipynb"):
        for text in texts(path):
            prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL).splitlines()
            for above, line in pairwise(prose):
                if first.match(line) and above and not above.startswith("  "):
                    assert item.match(above.lstrip()), (path.name, above, line)


def test_pages_are_notebooks_that_begin_with_a_title(site: Path) -> None:
    for path in notebooks(site):
        notebook = json.loads(path.read_text())
        nbformat.validate(notebook)
        assert notebook["metadata"]["kernelspec"]["name"] == "python3"
        assert all(isinstance(cell["source"], list) for cell in notebook["cells"])
        first = notebook["cells"][path.name == "index.ipynb"]  # that one begins with the address it answers to
        assert first["cell_type"] == "markdown"
        assert "".join(first["source"]).startswith("# "), path.name
    for path in (site / "pages" / "api").glob("*.qmd"):
        assert yaml.safe_load(path.read_text().split("---")[1])["title"]


def test_the_address_of_the_site_leads_to_the_front_page(site: Path) -> None:
    """Quarto writes a page that leads on for each alias; without it, there is no index.html in _docs."""
    first = json.loads((site / "pages" / "index.ipynb").read_text())["cells"][0]
    _, header, rest = "".join(first["source"]).split("---\n")
    assert first["cell_type"] == "raw" and not rest and yaml.safe_load(header) == {"aliases": ["/index.html"]}


def test_metadata_of_cells_does_not_become_attributes(site: Path) -> None:
    for path in notebooks(site):
        assert not any(cell["metadata"] for cell in json.loads(path.read_text())["cells"]), path.name


def test_cells_carry_only_options_that_quarto_knows(site: Path) -> None:
    for path in notebooks(site):
        for cell in json.loads(path.read_text())["cells"]:
            lines = "".join(cell["source"]).splitlines()
            head = [line for line in lines if line.startswith("#|")]
            assert lines[: len(head)] == head, f"{path.name}: an option below the code"
            if cell["cell_type"] == "code" and head:
                options = yaml.safe_load("\n".join(line.removeprefix("#|") for line in head))
                assert set(options) <= OPTIONS, path.name


@pytest.mark.fast
def test_solutions_are_folded_and_pictures_keep_their_words() -> None:
    cell = {
        "cell_type": "code",
        "metadata": {"exercise": {"id": "1.1"}},
        "outputs": [],
        "source": ["#| export\n", '#| fig-alt: one: two "three", {four}\n', "x = 1\n", "y = 2"],
    }
    injected = {"cell_type": "code", "metadata": {"tags": ["injected-parameters"]}, "source": ["x = 2"]}
    only = {"cell_type": "code", "metadata": {}, "source": ["#| default_exp tokens"]}
    [page] = staged({"cells": [injected, cell, only]})["cells"]
    head, code = page["source"][:3], page["source"][3:]
    options = yaml.safe_load("".join(line.removeprefix("#|") for line in head))
    assert options == {
        "fig-alt": 'one: two "three", {four}',
        "code-fold": True,
        "code-summary": "Exercise 1.1: unfold the solution",
    }
    assert code == ["x = 1\n", "y = 2"]


@pytest.mark.fast
def test_links_out_of_the_site_become_words() -> None:
    source = ["see [videos](../vqbet_course/videos.py) and [x](01_a.ipynb)"]
    [page] = staged({"cells": [{"cell_type": "markdown", "metadata": {}, "source": source}]})["cells"]
    assert page["source"] == ["see videos (`vqbet_course/videos.py`) and [x](01_a.ipynb)"]


def test_the_reference_has_a_page_for_every_module(site: Path) -> None:
    package = REPO / "vqbet_course"
    modules = {
        path.stem
        for path in package.iterdir()
        if not path.name.startswith("_") and (path.suffix == ".py" or (path / "__init__.py").exists())
    }
    assert {path.stem for path in (site / "pages" / "api").glob("*.qmd")} == modules | {"index"}


@pytest.mark.fast
def test_excerpts_stop_before_the_body() -> None:
    source = 'class A:\n    """Words."""\n    x: int = 1\n\n    def f(self,\n          y: int) -> int:\n        pass\n'
    [(name, excerpt)] = documented(source)
    assert name == "A" and excerpt == 'class A:\n    """Words."""\n\n    def f(self,\n          y: int) -> int:'


@pytest.mark.fast
def test_make_site_says_in_one_line_how_to_get_quarto(tmp_path: Path) -> None:
    for tool in ("make", "sh", "python3.12"):
        if found := shutil.which(tool):
            (tmp_path / tool).symlink_to(found)
    done = subprocess.run(
        [tmp_path / "make", "-o", "fresh", "site", "READY=fresh"],
        cwd=REPO,
        text=True,
        check=False,
        capture_output=True,
        env={"PATH": str(tmp_path)},
    )
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert done.returncode != 0 and len(lines) == 1 and "quarto.org" in lines[0], done.stderr


def test_executed_lessons_carry_outputs_and_the_state_of_their_widgets() -> None:
    executed = sorted(EXECUTED.glob("[0-9]*.ipynb"))
    if not executed:
        pytest.skip("no executed lessons: make course writes them")
    for path in executed:
        notebook = nbformat.read(path, as_version=4)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
        assert outputs and not [output for output in outputs if output.output_type == "error"], path.name
        shown = {output.data[WIDGET]["model_id"] for output in outputs if WIDGET in output.get("data", {})}
        kept = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {"state": {}})
        assert shown <= set(kept["state"]), f"{path.name}: a widget without its state"
        for png in (output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})):
            assert base64.b64decode(png)[:4] == b"\x89PNG"


WIDGET = "application/vnd.jupyter.widget-view+json"
