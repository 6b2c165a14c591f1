"""Runs inside the sandbox: papermill and the kernel that it starts, on a notebook that a student handed in.

The notebook comes in a file, and its executed copy goes into another that the grader owns. Scoring takes nothing from
either.
"""

import json
import os
import sys
from pathlib import Path

from vqbet_course.grading.limits import Limits


def run(files: list[int], limits: Limits) -> None:
    """Run the notebook in the first file, no cell longer than a third of the time; the copy goes into the second."""
    notebook_file, copy_file = files
    with open(notebook_file, "rb") as file:
        notebook = file.read()
    limits.take()
    import papermill

    Path("notebook.ipynb").write_bytes(notebook)
    try:
        papermill.execute_notebook(
            "notebook.ipynb",
            "copy.ipynb",
            kernel_name="python3",
            language="python",
            progress_bar=False,
            execution_timeout=limits.wall // 3,
        )
    except Exception as error:  # the copy shows it to the reader; a dead kernel leaves no trace in it
        print(type(error).__name__, file=sys.stderr)
    with open(copy_file, "wb") as file:
        file.write(Path("copy.ipynb").read_bytes())


def main(files: list[int], limits: Limits) -> str:
    """Run it in a child, and watch over that; how it ended. All that is left ends with the sandbox."""
    pid = os.fork()
    if pid == 0:
        try:
            run(files, limits)
        finally:
            os._exit(0)
    return limits.supervise(pid)


if __name__ == "__main__":
    main([int(sys.argv[1]), int(sys.argv[2])], Limits(**json.loads(sys.argv[3])))
