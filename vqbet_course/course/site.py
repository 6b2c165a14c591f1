"""Stage the website in `pages/`, ready for Quarto: `python -m vqbet_course.course.site`.

Quarto executes nothing and warns of every cell option that it does not know. So it is given copies: the lessons as
`make course` executed them, the other notebooks as they run here, all without nbdev's directives, a page for every
module and command, and `_quarto.yml` with what depends on the pages and on settings.ini.
"""

import base64
import json
import shutil
import tempfile
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import yaml

from vqbet_course.core.io import write_atomically, write_text
from vqbet_course.core.places import LABS, LESSONS
from vqbet_course.course.live import WEIGHTS, board_cell, write_weights
from vqbet_course.course.page import SITE_CARD, Links, header, staged, staged_markdown
from vqbet_course.course.reference import api_pages, command_pages
from vqbet_course.course.runner import lesson_environment, run_lesson

REPO = LESSONS.parent
PAGES = REPO / "pages"
FRONT = "index"
EXECUTED = REPO / "_runs" / "course"


def stage(executed: Path = EXECUTED, out: Path = PAGES, settings: dict[str, str] | None = None) -> list[str]:
    """Fill `out` with the site's sources; returns the names of the lessons that have not run: they lack outputs.

    `settings` are those of settings.ini, read by default.
    """
    settings = read_settings() if settings is None else settings
    shutil.rmtree(out, ignore_errors=True)
    for name in ("images", "solutions"):
        shutil.copytree(LESSONS / name, out / name, ignore=shutil.ignore_patterns("*.py", "*.md", "__pycache__"))
    for path in (LESSONS / "site").iterdir():
        shutil.copy(path, out / path.name)
    write_weights(out / WEIGHTS)
    unexecuted = stage_notebooks(executed, out, Links(settings.get("git_url", ""), settings.get("branch", "main")))
    for path in sorted((LESSONS / "solutions").glob("*.md")):
        write_text(out / "solutions" / path.name, staged_markdown(path.read_text(encoding="utf-8"), SITE_CARD))
    sections = {"Reference": list(api_pages(settings)), "Commands": list(command_pages())}
    for pages in sections.values():
        for name, text in pages:
            write_text(out / name, text)
    listed = {title: [name for name, _ in pages] for title, pages in sections.items()}
    write_text(out / "_quarto.yml", yaml.safe_dump(configuration(settings, out, listed), sort_keys=False))
    return unexecuted


def read_settings() -> dict[str, str]:
    """The values of settings.ini."""
    config = ConfigParser(delimiters=["="])
    config.read(REPO / "settings.ini", encoding="utf-8")
    return dict(config["DEFAULT"])


def configuration(settings: dict[str, str], out: Path, sections: dict[str, list[str]]) -> dict[str, Any]:
    """The content of Quarto's `_quarto.yml` for the pages in `out`: the repository's, all pages, sections of the
    sidebar {title: pages}, and the addresses that settings.ini gives."""
    config: dict[str, Any] = yaml.safe_load((REPO / "_quarto.yml").read_text(encoding="utf-8"))
    suffixes = {".ipynb", ".qmd", ".md"}
    pages = (path.relative_to(out) for path in sorted(out.rglob("*")) if path.suffix in suffixes)
    config["project"]["render"] = [page.as_posix() for page in pages if page.parts[0] != "downloads"]
    website = config["website"]
    for title, names in sections.items():
        website["sidebar"]["contents"].append({"section": title, "contents": names})
    if host := settings.get("doc_host"):
        website["site-url"] = host.rstrip("/") + settings.get("doc_baseurl", "/")
    if repository := settings.get("git_url"):
        website["repo-url"] = repository
    return config


# --- notebooks --------------------------------------------------------------------------------------------------


def stage_notebooks(executed: Path, out: Path, links: Links) -> list[str]:
    """Stage every notebook of the course, and the downloads of lessons and labs; returns the lessons without outputs."""
    unexecuted = []
    for path in sorted(LESSONS.glob("*.ipynb")):
        is_lesson, copy = path.name[0].isdigit(), executed / path.name
        if not is_lesson:
            notebook = run_page(path)
        elif copy.exists():
            notebook = json.loads(copy.read_text(encoding="utf-8"))
        else:
            notebook = json.loads(path.read_text(encoding="utf-8"))
            unexecuted.append(path.stem)
        lab = LABS / path.name if is_lesson else None
        page = staged(notebook, json.loads(lab.read_text(encoding="utf-8")) if lab and lab.exists() else None)
        page["cells"].insert(0, header(page, link_card(notebook, path.stem, out)))
        if path.stem == FRONT:
            page["cells"].insert(2, board_cell())
        if is_lesson:
            downloads = {"lesson": path} | ({"lab": lab} if lab and lab.exists() else {})
            for kind, source in downloads.items():
                write_text(out / "downloads" / f"{kind}_{path.name}", source.read_text(encoding="utf-8"))
            page["cells"].insert(2, links.cell(path.stem, list(downloads), notebook))
        write_text(out / path.name, json.dumps(page, indent=1, ensure_ascii=False) + "\n")
    return unexecuted


def run_page(path: Path) -> dict[str, Any]:
    """A notebook beside the lessons with the outputs of its few cells, if it has any."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if all(cell["cell_type"] == "markdown" for cell in notebook["cells"]):
        return notebook
    with tempfile.TemporaryDirectory() as scratch, lesson_environment():
        run_lesson(path, Path(scratch))
        return json.loads((Path(scratch) / path.name).read_text(encoding="utf-8"))


def link_card(notebook: dict[str, Any], name: str, out: Path) -> str:
    """The address of a page's image for links to it: its first figure, written to `out`, or the site's."""
    outputs = (output for cell in notebook["cells"] for output in cell.get("outputs", ()))
    figures = (png for output in outputs if (png := output.get("data", {}).get("image/png")))
    if (figure := next(figures, None)) is None:
        return SITE_CARD
    image = base64.b64decode("".join(figure))
    write_atomically(out / "images" / "cards" / f"{name}.png", lambda path: path.write_bytes(image))
    return f"/images/cards/{name}.png"


if __name__ == "__main__":
    if missing := stage():
        print(f"site: {', '.join(missing)} without outputs, because they have not run: make course")
