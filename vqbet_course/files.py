"""Files that are either written whole or not touched."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vqbet_course.contract import BadInput


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then move it there. Raises BadInput when that is not possible."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with in_plain_words(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def append_text(path: Path, text: str) -> None:
    """Add to the end of a text file. Raises BadInput when that is not possible."""
    with in_plain_words(path), open(path, "a", encoding="utf-8") as file:
        file.write(text)


def drop_partials(folder: Path) -> None:
    """Remove what a killed process had begun to write."""
    for partial in folder.glob(".*.partial"):
        partial.unlink(missing_ok=True)


@contextmanager
def in_plain_words(path: Path) -> Iterator[None]:
    """What the system has against writing `path`, as BadInput. safetensors tells it as text, others as OSError."""
    try:
        yield
    except Exception as error:
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            raise BadInput(f"{path}: no space left on the disk; free some and run the same command again, "
                           "what was there before is untouched") from None
        if isinstance(error, OSError) or "os error" in str(error):
            raise BadInput(f"{path}: cannot be written ({error}); choose another place") from None
        raise
