"""Files that are either written whole or not touched."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

from vqbet_course.contract import BadInput


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then move it there. Raises BadInput when that is not possible."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        os.replace(partial, path)
    except Exception as error:
        if disk_is_full(error):
            raise BadInput(f"{path}: no space left on the disk; free some and run the same command again, "
                           "what was there before is untouched") from None
        if isinstance(error, OSError):
            raise BadInput(f"{path}: cannot be written ({error.strerror or error}); choose another place") from None
        raise
    finally:
        if partial.parent.is_dir():
            partial.unlink(missing_ok=True)


def disk_is_full(error: Exception) -> bool:
    """safetensors reports a full disk as text, everyone else as ENOSPC."""
    return getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)


def drop_partials(folder: Path) -> None:
    """Remove what a killed process had begun to write."""
    for partial in folder.glob(".*.partial"):
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))
