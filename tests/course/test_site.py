"""What Quarto would complain of, without Quarto: configuration, pages, links, terms, cell options, outputs."""
import base64
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from conftest import REPO

from vqbet_course.course.site import EXECUTED, documented, stage, staged

LESSONS = sorted(path.name for path in (REPO / "nbs").glob("[0-9]*.ipynb"))
OPTIONS = {"fig-alt", "code-fold", "code-summary"}
FIELDS = {
    "project": {"type", "output-dir", "pre-render", "render"}, "execute": {"enabled"}, "format": {"html"},
    "website": {"title", "description", "search", "page-navigation", "image", "open-graph", "twitter-card", "sidebar"},
}
CONFIG = yaml.safe_load((REPO / "_quarto.yml").read_text())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the repository's, with the staged pages in it."""
    root = tmp_path_factory.mktemp("site")
    stage(EXECUTED, root / "pages")
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


def test_the_configuration_has_only_the_keys_that_are_meant() -> None:
    assert set(CONFIG) == set(FIELDS)
    for part, fields in FIELDS.items():
        assert set(CONFIG[part]) == fields
    assert CONFIG["project"]["type"] == "website" and CONFIG["execute"] == {"enabled": False}
    html = CONFIG["format"]["html"]
    assert html["code-copy"] is True and set(html["theme"]) == {"light", "dark"}
    assert set(html) == {"toc", "code-copy", "html-math-method", "theme"}
    assert html["html-math-method"] == "mathml", "the default fetches a script"
    for _, layer in html["theme"].values():
        assert "$web-font-path: false" in (REPO / layer).read_text(), "the themes fetch fonts"
    assert CONFIG["website"]["search"] is True
    assert CONFIG["project"]["pre-render"] == "make stage"


def test_every_entry_of_the_configuration_exists(site: Path) -> None:
    entries = [*CONFIG["project"]["render"], *sidebar_entries(CONFIG["website"]["sidebar"]["contents"]),
               CONFIG["website"]["image"].removeprefix("/")]
    assert not [entry for entry in entries if not list(site.glob(entry))]


def test_every_page_is_rendered_and_every_lesson_is_in_the_sidebar(site: Path) -> None:
    rendered = {path for entry in CONFIG["project"]["render"] for path in site.glob(entry)}
    assert rendered == {*notebooks(site), *(site / "pages" / "api").glob("*.qmd")}
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


def test_every_lesson_links_terms_of_the_glossary_and_lessons_before_and_after_it() -> None:
    for name in LESSONS:
        text = "\n".join(texts(REPO / "nbs" / name))
        assert "](glossary.ipynb#" in text, name
        linked = set(re.findall(r"\]\((\d\d_\w+\.ipynb)", text))
        assert name == LESSONS[0] or min(linked) < name, f"{name} does not lead back"
        assert name == LESSONS[-1] or max(linked) > name, f"{name} does not lead on"


def test_no_text_reads_as_something_else_to_pandoc(site: Path) -> None:
    """Citations, divs, shortcodes, attributes and footnotes would be looked up, and warned of; raw HTML is balanced."""
    special = re.compile(r"(?<![\w.])@\w|^:::|\{\{<|\]\{|\[\^|<(?:div|span|script|style)\b", re.MULTILINE)
    for page in [*notebooks(site), *(site / "pages" / "api").glob("*.qmd")]:
        text = "\n".join(texts(page))
        assert not special.findall(text), page.name
        for tag in ("details", "summary", "code", "b"):
            assert len(re.findall(f"<{tag}>", text)) == len(re.findall(f"</{tag}>", text)), (page.name, tag)


def test_every_list_is_one_to_pandoc() -> None:
    """Jupyter lets a list begin right below a line of prose; to pandoc it is then part of that line."""
    item = re.compile(r"(?:-|\*|\d+\.) ")
    for path in (REPO / "nbs").glob("*.ipynb"):
        for text in texts(path):
            prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL).splitlines()
            for above, line in zip(prose, prose[1:], strict=False):
                assert not item.match(line) or not above or item.match(above.lstrip()) or above.startswith("  "), (
                    path.name, above, line)


def test_quarto_finds_its_own_lines_in_gitignore() -> None:
    """It writes them where they are missing, and a render would leave a changed file behind."""
    assert {"/.quarto/", "**/*.quarto_ipynb"} <= set((REPO / ".gitignore").read_text().splitlines())


def minutes_of(text: str) -> list[str]:
    """What a lesson says of its length, in one of two forms."""
    return re.findall(r"\*\*(?:Time\*\*[^0-9\n]*)?(\d+) minutes", text)


@pytest.mark.parametrize("page", ["index.ipynb", "00_first_push.ipynb"])
def test_the_maps_give_every_lesson_with_its_own_minutes(page: str) -> None:
    text = "\n".join(texts(REPO / "nbs" / page))
    for name in LESSONS:
        [row] = re.findall(rf"^\| \[?{name[:2]} · .*\| (\d+) \|$", text, re.MULTILINE)
        assert minutes_of("\n".join(texts(REPO / "nbs" / name))) == [row], name


def test_the_week_plan_adds_up() -> None:
    rows = re.findall(r"^\| \d \|.*", "\n".join(texts(REPO / "nbs" / "plans.ipynb")), re.MULTILINE)
    assert len(rows) == 5
    for row in rows:
        lessons = re.findall(r"\((\d\d_\w+\.ipynb)\)", row)
        total = sum(int(minutes_of("\n".join(texts(REPO / "nbs" / name)))[0]) for name in lessons)
        assert f"| {total} |" in row, row


def test_the_day_has_primer_reading_guided_reading_and_lab() -> None:
    text = "\n".join(texts(REPO / "nbs" / "plans.ipynb"))
    for minutes, part, name in ((10, "Primer", "00"), (30, "Guided reading of LeRobot's code", "13"), (75, "Lab", "02")):
        assert re.search(rf"^\| {minutes} \| \*\*{part}\.\*\*.*\({name}_", text, re.MULTILINE), part


def test_every_paper_that_a_lesson_cites_is_in_the_bibliography() -> None:
    entries = re.split(r"^- ", "\n".join(texts(REPO / "nbs" / "bibliography.ipynb")), flags=re.MULTILINE)
    for name in LESSONS:
        code = "\n".join("".join(cell["source"]) for cell in json.loads((REPO / "nbs" / name).read_text())["cells"])
        for author, year in re.findall(r"([A-Z]\w+)(?: et al\.)?,? \(?((?:19|20)\d\d)\)", code):
            assert any(author in entry and year in entry for entry in entries), f"{name}: {author} {year}"


def test_the_glossary_is_sorted_and_each_term_leads_to_a_lesson() -> None:
    cells = list(texts(REPO / "nbs" / "glossary.ipynb"))[1:]
    terms = [cell.splitlines()[0].removeprefix("### ") for cell in cells]
    assert terms == sorted(terms) and len(set(terms)) == len(terms)
    assert all(term == term.lower() for term in terms), "JupyterLab and pandoc name only lower-case headings alike"
    assert all(re.search(r"\]\(\d\d_\w+\.ipynb\)", cell) for cell in cells)


def test_pages_are_notebooks_that_begin_with_a_title(site: Path) -> None:
    for path in notebooks(site):
        notebook = json.loads(path.read_text())
        nbformat.validate(notebook)
        assert notebook["metadata"]["kernelspec"]["name"] == "python3"
        assert all(isinstance(cell["source"], list) for cell in notebook["cells"])
        first = notebook["cells"][path.name == "index.ipynb"]  # that one begins with the address it answers to
        assert first["cell_type"] == "markdown"
        assert "".join(first["source"]).startswith(("# ", "---\n")), path.name
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


def test_the_other_notebooks_show_what_they_print(site: Path) -> None:
    cells = [cell for cell in json.loads((site / "pages" / "grading.ipynb").read_text())["cells"]
             if cell["cell_type"] == "code"]
    a_class = json.loads((REPO / "benchmarks" / "results" / "grading.json").read_text())["class"]
    [printed] = ["".join(output.get("text", "")) for cell in cells for output in cell["outputs"]]
    assert f"{a_class['submissions']} submissions with {a_class['jobs']} jobs: {a_class['seconds']} s" in printed


def test_cells_carry_only_options_that_quarto_knows(site: Path) -> None:
    for path in notebooks(site):
        for cell in json.loads(path.read_text())["cells"]:
            lines = "".join(cell["source"]).splitlines()
            head = [line for line in lines if line.startswith("#|")]
            assert lines[:len(head)] == head, f"{path.name}: an option below the code"
            if cell["cell_type"] == "code" and head:
                options = yaml.safe_load("\n".join(line.removeprefix("#|") for line in head))
                assert set(options) <= OPTIONS, path.name


def test_solutions_are_folded_and_pictures_keep_their_words() -> None:
    cell = {"cell_type": "code", "metadata": {"exercise": {"id": "1.1"}}, "outputs": [],
            "source": ["#| export\n", "#| fig-alt: one: two \"three\", {four}\n", "x = 1\n", "y = 2"]}
    injected = {"cell_type": "code", "metadata": {"tags": ["injected-parameters"]}, "source": ["x = 2"]}
    only = {"cell_type": "code", "metadata": {}, "source": ["#| default_exp tokens"]}
    [page] = staged({"cells": [injected, cell, only]})["cells"]
    head, code = page["source"][:3], page["source"][3:]
    options = yaml.safe_load("".join(line.removeprefix("#|") for line in head))
    assert options == {"fig-alt": 'one: two "three", {four}', "code-fold": True,
                       "code-summary": "Exercise 1.1: unfold the solution"}
    assert code == ["x = 1\n", "y = 2"]


def test_links_out_of_the_site_become_words() -> None:
    cell = {"cell_type": "markdown", "metadata": {}, "source": ["see [films](../vqbet_course/films.py) and [x](01_a.ipynb)"]}
    [page] = staged({"cells": [cell]})["cells"]
    assert page["source"] == ["see films (`vqbet_course/films.py`) and [x](01_a.ipynb)"]


def test_the_reference_has_a_page_for_every_module(site: Path) -> None:
    package = REPO / "vqbet_course"
    modules = {path.stem for path in package.iterdir() if not path.name.startswith("_") and (
        path.suffix == ".py" or (path / "__init__.py").exists())}
    assert {path.stem for path in (site / "pages" / "api").glob("*.qmd")} == modules | {"index"}
    text = (site / "pages" / "api" / "tokens.qmd").read_text()
    assert "def nearest_code(chunks: Tensor, codebook: Tensor) -> Tensor:" in text
    assert "argmin_j |x - e_j|^2" in text and "return squared_distances" not in text


def test_excerpts_stop_before_the_body() -> None:
    source = 'class A:\n    """Words."""\n    x: int = 1\n\n    def f(self,\n          y: int) -> int:\n        return y\n'
    assert dict(documented(source)) == {"A": 'class A:\n    """Words."""\n\n    def f(self,\n          y: int) -> int:'}


def test_a_lesson_that_has_not_run_is_named(tmp_path: Path) -> None:
    assert stage(tmp_path / "nothing", tmp_path / "pages") == [name.removesuffix(".ipynb") for name in LESSONS]


def test_make_site_says_in_one_line_how_to_get_quarto(tmp_path: Path) -> None:
    for tool in ("make", "sh", "python3.12"):
        found = subprocess.run(["which", tool], capture_output=True, text=True).stdout.strip()
        if found:
            (tmp_path / tool).symlink_to(found)
    done = subprocess.run([tmp_path / "make", "-o", "fresh", "site", "READY=fresh"], cwd=REPO, text=True, capture_output=True,
                          env={"PATH": str(tmp_path)})
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
