"""Run a submitted notebook for its reader: papermill and the kernel together in one sandbox. Scoring takes nothing
from it, so this sandbox may hold the whole course."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from vqbet_course.core.notebooks import has_directive
from vqbet_course.core.places import LESSONS, ROOT
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

RUNNER = Path(__file__).with_name("papermill_runner.py")
LIMITS = Limits(seconds=300, wall=300, memory=8 << 30, output=32 << 20, processes=256, jupyter=True)
"""Of the whole notebook."""


def without_slow_cells(data: bytes, lab: Lab) -> bytes:
    """The notebook with its slow cells, and those that the lesson calls so, as plain text."""
    notebook = json.loads(data)
    slow = [cell["id"] for cell in lab.cells if has_directive(cell, "slow")]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and (cell.get("id") in slow or has_directive(cell, "slow")):
            cell["cell_type"] = "raw"
            for only_code in ("outputs", "execution_count"):
                cell.pop(only_code, None)
    return json.dumps(notebook).encode()


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
