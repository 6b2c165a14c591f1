"""Staged pages as HTML where no Quarto is: the same content in the template of the course's own pages."""

import re
from pathlib import Path

import nbformat
import yaml

from vqbet_course.course.lesson_page import as_html

FIGURE = re.compile(r'!\[\]\(([^)\s]+)\)\{fig-alt="([^"]*)"\}')
RAW = re.compile(r"^```\{=html\}\n(.*?)\n```$", re.MULTILINE | re.DOTALL)


def rendered(page: Path) -> str:
    """A staged page, a notebook or Markdown, as HTML with its title as the one heading of the first level."""
    if page.suffix == ".ipynb":
        notebook = nbformat.read(page, as_version=4)
        front = notebook.cells.pop(0).source
    else:
        _, front, text = page.read_text().split("---\n", 2)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    title = yaml.safe_load(front.replace("---", ""))["title"]
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(f"# {title}"))
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = FIGURE.sub(r"![\2](\1)", RAW.sub(lambda match: match[1], cell.source))
    return as_html(notebook, title)
