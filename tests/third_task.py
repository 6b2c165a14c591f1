"""The example of the page on adding a task: its module, its classes, and the commands of the page."""

import re
import shlex
from pathlib import Path
from typing import Any

from vqbet_course.core.notebooks import read_notebook, source_of

PAGE = Path(__file__).parents[1] / "nbs" / "add_a_task.ipynb"
CELLS = read_notebook(PAGE)["cells"]
CODE = "\n\n\n".join(source_of(cell) for cell in CELLS if cell["cell_type"] == "code") + "\n"
WORDS = "\n".join(source_of(cell) for cell in CELLS if cell["cell_type"] == "markdown")

made: dict[str, Any] = {"__name__": "third_task"}
exec(CODE, made)
Reach, ReachEnv = made["Reach"], made["ReachEnv"]
BLOCK = r"```sh\n(.*?)```"


def commands() -> list[list[str]]:
    """The arguments of every vqbet-course command that the page types."""
    blocks = re.findall(BLOCK, WORDS, re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("vqbet-course")]
