"""Run a submitted notebook for its reader: papermill and the kernel together in one sandbox. Scoring takes nothing
from it."""
from vqbet_course.grading.lessons import Lab


def execute(data: bytes, lab: Lab) -> tuple[bytes, str]:
    """The executed copy (empty if there is none), and what a reader should know about it."""
    return b"", "not run yet"
