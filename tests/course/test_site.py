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

from vqbet_course.course.page import Links, staged
from vqbet_course.course.reference import documented
from vqbet_course.course.site import EXECUTED, configuration, stage

LESSONS = sorted(path.name for path in (REPO / "nbs").glob("[0-9]*.ipynb"))
OPTIONS = {"fig-alt", "code-fold", "code-summary"}
PUBLISHED = {"doc_host": "https://example.org", "doc_baseurl": "/course/", "git_url": "https://github.com/a/b"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def site(root: Path) -> Path:
    """The folder in which the pages are staged as long as no lesson has run."""
    unexecuted = stage(root / "nothing", root / "pages")
    assert unexecuted == [name.removesuffix(".ipynb") for name in LESSONS], "each of them is named"
    return root


@pytest.fixture(scope="module")
def config(site: Path) -> Any:
    return yaml.safe_load((site / "pages" / "_quarto.yml").read_text())


def notebooks(site: Path) -> list[Path]:
    return sorted((site / "pages").glob("*.ipynb"))


def texts(path: Path) -> Iterator[str]:
    """The Markdown of a page."""
    if path.suffix in (".qmd", ".md"):
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


def written(site: Path) -> list[Path]:
    return [path for path in sorted((site / "pages").rglob("*.*md")) if path.suffix in (".qmd", ".md")]


def front_matter_of(path: Path) -> Any:
    text = path.read_text()
    if path.suffix == ".ipynb":
        first = json.loads(text)["cells"][0]
        assert first["cell_type"] == "raw", path.name
        text = "".join(first["source"])
    return yaml.safe_load(text.split("---\n")[1])


def test_every_entry_of_the_configuration_exists(site: Path, config: Any) -> None:
    entries = [
        *config["project"]["render"],
        *config["project"]["resources"],
        *sidebar_entries(config["website"]["sidebar"]["contents"]),
        config["website"]["favicon"],
        config["format"]["html"]["css"],
        config["format"]["html"]["include-after-body"],
        *(name for theme in config["format"]["html"]["theme"].values() for name in theme if name.endswith(".scss")),
    ]
    assert not [entry for entry in entries if not list((site / "pages").glob(entry))]


def test_every_page_is_rendered_and_every_lesson_is_in_the_sidebar(site: Path, config: Any) -> None:
    pages = {path.relative_to(site / "pages").as_posix() for path in [*notebooks(site), *written(site)]}
    assert set(config["project"]["render"]) == pages and "index.ipynb" in pages and "404.qmd" in pages
    listed = list(sidebar_entries(config["website"]["sidebar"]["contents"]))
    assert [name for name in listed if name in LESSONS] == LESSONS
    assert len(set(listed)) == len(listed)
    assert pages - set(listed) == {"404.qmd", *(name for name in pages if name.startswith("solutions/"))}


def test_every_page_has_one_heading_of_the_first_level_a_description_and_a_picture(site: Path) -> None:
    for path in [*notebooks(site), *written(site)]:
        about = front_matter_of(path)
        assert about["title"] and 0 < len(about["description"]) <= 200, (path.name, about)
        assert (site / "pages" / about["image"].removeprefix("/")).exists(), path.name
        body = "\n".join(texts(path))
        body = body.split("---\n", 2)[2] if path.suffix != ".ipynb" else body
        assert not re.findall(r"^# ", body, re.MULTILINE), path.name


def test_every_link_resolves_to_a_page_and_a_heading(site: Path) -> None:
    pages = [*notebooks(site), *written(site)]
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
    for page in [*notebooks(site), *written(site)]:
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


def test_pages_are_valid_notebooks_without_the_state_of_widgets(site: Path) -> None:
    for path in notebooks(site):
        notebook = json.loads(path.read_text())
        nbformat.validate(notebook)
        assert notebook["metadata"]["kernelspec"]["name"] == "python3" and "widgets" not in notebook["metadata"]
        assert all(isinstance(cell["source"], list) for cell in notebook["cells"])


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
    listed = re.findall(
        r"^- \[`(\w+)`\]\(\w+\.qmd\): [A-Z]?\w", (site / "pages" / "api" / "index.qmd").read_text(), re.MULTILINE
    )
    assert set(listed) == modules, "each with a line of words"


@pytest.mark.fast
def test_the_reference_shows_fields_and_constructor_and_stops_before_the_body() -> None:
    source = (
        'class A:\n    """Words."""\n    x: int = 1\n    _y: int = 2\n\n    def __init__(self, z: int) -> None:\n'
        '        """Of z."""\n        self.z = z\n\n    def f(self,\n          y: int) -> int:\n        pass\n'
    )
    [(name, head, words)] = documented(source)
    assert name == "A" and words == "Words.\n\n`__init__`: Of z."
    assert head == (
        "class A:\n    x: int = 1\n\n    def __init__(self, z: int) -> None:\n\n"
        "    def f(self,\n          y: int) -> int:"
    )


def test_every_public_definition_and_every_term_is_a_record_of_the_search(site: Path) -> None:
    """Quarto cuts the records of its search at headings of the second level."""
    api = (site / "pages" / "api" / "tokens.qmd").read_text()
    source = (REPO / "vqbet_course" / "tokens.py").read_text()
    defined = re.findall(r"^(?:def|class) ([a-zA-Z]\w*)", source, re.MULTILINE)
    assert re.findall(r"^## (\w+)$", api, re.MULTILINE) == defined
    glossary = json.loads((site / "pages" / "glossary.ipynb").read_text())["cells"]
    terms = ["".join(cell["source"]) for cell in glossary[2:] if cell["source"]]
    assert len(terms) > 30 and all(re.match(r"## .+\n", term) for term in terms)


def test_lessons_and_reference_lead_to_each_other(site: Path) -> None:
    lesson = "\n".join(texts(site / "pages" / "06_policy.ipynb"))
    assert "(api/policy.qmd)" in lesson
    assert "(../06_policy.ipynb)" in (site / "pages" / "api" / "policy.qmd").read_text()


def test_the_configuration_of_a_policy_shows_every_field_with_its_meaning(site: Path) -> None:
    from vqbet_course.core.hyperparameters import MEANINGS

    core = (site / "pages" / "api" / "core.qmd").read_text()
    assert not [name for name, (_, meaning) in MEANINGS.items() if f"| `{name}` |" not in core or meaning not in core]


def test_every_command_has_a_page_with_its_options(site: Path) -> None:
    page = (site / "pages" / "commands" / "eval.qmd").read_text()
    assert "--perturb NAME[=VALUE]" in page and "<code>random</code>" in page
    assert "--render" in (site / "pages" / "commands" / "demos-convert.qmd").read_text()


def test_the_task_of_an_exercise_precedes_its_folded_solution(site: Path) -> None:
    cells = json.loads((site / "pages" / "01_tokens.ipynb").read_text())["cells"]
    at = next(i for i, cell in enumerate(cells) if cell["id"] == "9820ed4e")
    task, solution = ("".join(cells[i]["source"]) for i in (at - 1, at))
    for part in ("nearest_code", "★ · 10 minutes", "raise NotImplementedError", "<summary>Hint</summary>"):
        assert part in task
    assert 'code-summary: "Exercise 1.2' in solution and "raise NotImplementedError" not in solution


def test_lessons_and_labs_can_be_downloaded(site: Path) -> None:
    for name in LESSONS:
        page = "\n".join(texts(site / "pages" / name))
        named = re.findall(r'<a href="(downloads/[^"]+)"', page)
        labs = (REPO / "labs" / name).exists()
        assert len(named) == 1 + labs and all((site / "pages" / file).exists() for file in named)


@pytest.mark.fast
def test_links_to_the_repository_need_its_address(tmp_path: Path) -> None:
    lesson: Any = {"cells": []}
    alone = "".join(Links().cell("01_tokens", ["lesson"], lesson)["source"])
    assert "http" not in alone
    linked = "".join(Links("https://github.com/a/b").cell("01_tokens", ["lesson"], lesson)["source"])
    for address in (
        "colab.research.google.com/github/a/b/blob/main/nbs/01_tokens.ipynb",
        "mybinder.org/v2/gh/a/b/main?labpath=nbs/01_tokens.ipynb",
        "https://github.com/a/b/edit/main/nbs/01_tokens.ipynb",
        "https://github.com/a/b/issues/new",
    ):
        assert f"{address})" in linked
    assert not {"site-url", "repo-url"} & set(configuration({}, tmp_path, {})["website"])
    website = configuration(PUBLISHED, tmp_path, {})["website"]
    assert website["site-url"] == "https://example.org/course/" and website["repo-url"] == PUBLISHED["git_url"]


@pytest.mark.fast
@pytest.mark.parametrize(
    "source, metadata, summary",
    [
        ("import math\nfrom torch import nn", {}, "Imports (2 lines)"),
        ("assert x\ntest_eq(x, 1)", {}, "Tests (2 lines)"),
        ("#| fig-alt: a\n" + "plot()\n" * 9, {}, "The code of the figure (9 lines)"),
        ("#| fig-alt: a\nplot()", {}, None),
        ("#| fig-alt: a\nplot()", {"jupyter": {"source_hidden": True}}, "The code of the figure (1 line)"),
        ("x = 1\nassert x", {"jupyter": {"source_hidden": True}}, "Tests (2 lines)"),
        ("x = 1\nassert x", {}, None),
        ("%time f()", {}, None),
    ],
)
def test_code_that_is_no_lesson_is_folded(source: str, metadata: Any, summary: str | None) -> None:
    cell = {"cell_type": "code", "id": "a", "metadata": metadata, "source": source, "outputs": []}
    [page] = staged({"cells": [cell], "metadata": {}})["cells"]
    options = yaml.safe_load("".join(line[2:] for line in page["source"] if line.startswith("#|"))) or {}
    assert options.get("code-summary") == summary and options.get("code-fold", False) == (summary is not None)


@pytest.mark.fast
def test_figures_keep_their_words_without_a_caption_and_papers_are_links() -> None:
    source = "![A T.](images/hero.gif)\n\nSee arXiv 2403.03181, [arXiv 1711.00937](x)."
    [page] = staged({"cells": [{"cell_type": "markdown", "metadata": {}, "source": source}], "metadata": {}})["cells"]
    text = "".join(page["source"])
    assert '![](images/hero.gif){fig-alt="A T."}' in text
    assert "[arXiv 2403.03181](https://arxiv.org/abs/2403.03181), [arXiv 1711.00937](x)" in text


LOADED = re.compile(
    r"""<(?:script|link|img|iframe|source|video)\b[^>]*\b(?:src|href)=["']?https?:|@import|url\(["']?https?:"""
)


def test_no_page_loads_anything_from_elsewhere(site: Path, config: Any) -> None:
    """Links may lead out of the site; scripts, styles, fonts and images come from it."""
    assert LOADED.search("<script async src='https://a.b/c.js'>") and not LOADED.search('<a href="https://a.b">')
    staged_files = [
        path for path in (site / "pages").rglob("*") if path.suffix in (".ipynb", ".qmd", ".md", ".css", ".html")
    ]
    sources = [*staged_files, *(REPO / "vqbet_course" / "templates").glob("*.html")]
    assert not [path.name for path in sources if LOADED.search(path.read_text().replace('\\"', '"'))]
    assert config["format"]["html"]["html-math-method"] == "mathml"
    for theme in config["format"]["html"]["theme"].values():
        assert "$web-font-path: false" in (site / "pages" / theme[1]).read_text()


def contrast(one: str, other: str) -> float:
    """The contrast of two colours `#rrggbb`, from 1 to 21."""

    def light(colour: str) -> float:
        parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        r, g, b = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    brighter, darker = sorted((light(one), light(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


@pytest.mark.fast
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_colours_of_both_themes_can_be_read(theme: str) -> None:
    text = (REPO / "nbs" / "site" / f"{theme}.scss").read_text()
    colours = dict(re.findall(r"^\$([\w-]+): (#[0-9a-f]{6})", text, re.MULTILINE))
    behind = {colours.get("body-bg", "#ffffff"), colours.get("code-block-bg", "#f7f7f7")}
    written = {name: colour for name, colour in colours.items() if not name.endswith("-bg")}
    assert {"link-color", "code-color", "text-muted"} <= set(written)
    assert not {name for name, colour in written.items() for back in behind if contrast(colour, back) < 4.5}


FRAMES = '<div class="frames"></div>'


def explorer_cell(**more: str) -> Any:
    data = {WIDGET: {"model_id": "a"}, "text/plain": "VBox()"} | more
    output = {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": data}
    return {"cell_type": "code", "id": "a", "metadata": {}, "source": "explore()", "outputs": [output]}


@pytest.mark.fast
def test_a_page_shows_the_frames_of_an_explorer_and_not_its_widget() -> None:
    twin = {"cell_type": "markdown", "id": "b", "metadata": {"tags": ["twin"]}, "source": "the same picture"}
    with_frames = staged({"cells": [explorer_cell(**{"text/html": FRAMES}), twin], "metadata": {"widgets": {}}})
    [cell] = with_frames["cells"]
    assert cell["outputs"][0]["data"] == {"text/html": FRAMES} and "widgets" not in with_frames["metadata"]
    alone, same = staged({"cells": [explorer_cell(), twin], "metadata": {}})["cells"]
    assert WIDGET not in alone["outputs"][0]["data"] and "JupyterLab" in alone["outputs"][0]["data"]["text/html"]
    assert "".join(same["source"]) == "the same picture"


def make_site(folder: Path, quarto: str | None = None) -> subprocess.CompletedProcess[str]:
    """`make site` in a copy of the Makefile's folder where nothing is staged, with a Quarto that is a shell script."""
    for tool in ("make", "sh", "python3.12", "rm", "mv", "grep", "cat", "mkdir", "sed"):
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    if quarto is not None:
        (folder / "quarto").write_text(f"#!/bin/sh\n{quarto}\n")
        (folder / "quarto").chmod(0o755)
    shutil.copy(REPO / "Makefile", folder)
    return subprocess.run(
        [folder / "make", "-o", "fresh", "-o", "stage", "site", "READY=fresh"],
        cwd=folder,
        text=True,
        check=False,
        capture_output=True,
        env={"PATH": str(folder)},
    )


@pytest.mark.fast
def test_make_site_says_in_one_line_how_to_get_quarto(tmp_path: Path) -> None:
    done = make_site(tmp_path)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert done.returncode != 0 and len(lines) == 1 and "quarto.org" in lines[0], done.stderr


@pytest.mark.fast
@pytest.mark.parametrize(
    "says, passes",
    [
        ("Output created: _site/index.html", True),
        ("WARN: Unable to resolve link target", False),
        ("[WARNING] x", False),
    ],
)
def test_make_site_fails_on_any_warning(tmp_path: Path, says: str, passes: bool) -> None:
    done = make_site(tmp_path, f"mkdir -p pages/_site; echo '{says}' >&2")
    assert (done.returncode == 0) == passes, done.stderr
    assert says in done.stdout + done.stderr and (tmp_path / "_docs").exists() == passes


@pytest.mark.fast
def test_make_site_fails_where_quarto_does(tmp_path: Path) -> None:
    assert make_site(tmp_path, "exit 3").returncode != 0


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
