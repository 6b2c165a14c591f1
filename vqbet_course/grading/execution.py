"""Run a submitted notebook for its reader: papermill and the kernel together in one sandbox. Scoring takes nothing
from it, so this sandbox may hold the whole course."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vqbet_course.core.notebooks import Cell, has_directive, source_of
from vqbet_course.core.places import LESSONS, ROOT
from vqbet_course.grading.answers import CellSource
from vqbet_course.grading.lessons import Lab
from vqbet_course.grading.limits import Limits
from vqbet_course.grading.sandbox import (
    ENVIRONMENT,
    PACKAGE,
    bind,
    bubblewrap,
    bubblewrap_works,
    in_a_session,
    interpreter,
    scratch_folder,
    where_it_runs,
)
from vqbet_course.grading.submissions import is_script, script_cells, text_in

RUNNER = Path(__file__).with_name("papermill_runner.py")
LIMITS = Limits(seconds=300, wall=300, memory=8 << 30, output=32 << 20, processes=256, jupyter=True)
"""Of the whole notebook."""


def submitted_notebook(data: bytes) -> dict[str, Any]:
    """The submitted notebook; of a script, a notebook of its cells as scoring reads them."""
    text = text_in(data)
    if not is_script(text):
        return json.loads(text)
    cells = [
        cell | {"id": f"cell-{n}", "outputs": [], "execution_count": None} for n, cell in enumerate(script_cells(text))
    ]
    kernel = {"name": "python3", "display_name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def without_slow_cells(data: bytes, lab: Lab) -> bytes:
    """The notebook with its slow cells, and those that the lesson calls so, as plain text. A script has no ids of cells,
    so there the lesson's slow cells are told by their code."""
    notebook, code = submitted_notebook(data), [cell for cell in lab.cells if cell["cell_type"] == "code"]
    slow = [cell for cell in code if has_directive(cell, "slow")]
    ids = [cell["id"] for cell in slow]
    codes = statements_in(slow) - statements_in(cell for cell in code if cell not in slow)
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        if cell.get("id") in ids or has_directive(cell, "slow") or codes.issuperset(statements_in([cell]) or {""}):
            cell["cell_type"] = "raw"
            for only_code in ("outputs", "execution_count"):
                cell.pop(only_code, None)
    return json.dumps(notebook).encode()


def statements_in(cells: Iterable[Cell]) -> set[str]:
    """The code of all statements of some cells; see `CellSource.statement_codes`."""
    return {code for cell in cells for code in CellSource(source_of(cell)).statement_codes}


def command() -> list[str]:
    """What runs `papermill_runner`, in a sandbox where there is one."""
    if not bubblewrap_works():
        return [sys.executable, str(RUNNER)]
    folders: list[Path | str] = ["/usr", "/bin", "/etc/fonts", sys.prefix, PACKAGE, LESSONS, ROOT / "settings.ini"]
    shown = [*interpreter(), *sum((bind(folder) for folder in folders), [])]
    return [*bubblewrap(shown, 8 * LIMITS.output), sys.executable, str(RUNNER)]


def execute(data: bytes, lab: Lab, limits: Limits = LIMITS) -> tuple[bytes, str]:
    """The executed copy (empty if there is none), and what its reader should know."""
    with ExitStack() as files, tempfile.TemporaryFile() as notebook, tempfile.TemporaryFile() as copy:
        home = "/tmp" if bubblewrap_works() else str(files.enter_context(scratch_folder()))
        notebook.write(without_slow_cells(data, lab))
        notebook.seek(0)
        inherited = [notebook.fileno(), copy.fileno()]
        environment = ENVIRONMENT | {
            "HOME": home,
            "IPYTHONDIR": home,
            "PATH": f"{Path(sys.executable).parent}:/bin",
            "JUPYTER_PATH": f"{sys.prefix}/share/jupyter",
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(PACKAGE.parent),
        }
        arguments = [*map(str, inherited), json.dumps(asdict(where_it_runs(limits)))]
        process = in_a_session([*command(), *arguments], inherited, environment, home)
        try:
            process.wait(limits.wall + 5)  # the runner keeps the time; this is for one that no longer can
        except subprocess.TimeoutExpired:
            pass
        finally:
            kill_group(process)
        executed = os.pread(copy.fileno(), limits.output, 0)
    ended = f"the notebook did not run to an end within {limits.wall} s and its memory: there is no executed copy"
    return executed, "" if executed else ended


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with all that it started and that stayed in its group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
