"""Atomic writing of files, and reading that reports what is wrong."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from vqbet_course.core.errors import BadInput, CannotWrite


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
    """Write a text file atomically."""
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def append_text(path: Path, text: str) -> None:
    """Add to the end of a text file. Raises BadInput when that is not possible."""
    with in_plain_words(path), open(path, "a", encoding="utf-8") as file:
        file.write(text)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON object atomically."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def read_json[T](path: Path, parse: Callable[[dict[str, Any]], T]) -> T:
    """What `parse` makes of a JSON object. Raises BadInput, naming the file, when it is missing or damaged."""
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except OSError:
        raise BadInput(f"{path}: missing; is {path.parent} a run directory?") from None
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, OverflowError) as error:
        raise BadInput(f"{path}: damaged ({type(error).__name__}: {error}); copy it again or train again") from None


def drop_partials(folder: Path) -> None:
    """Remove partial files that a killed process left."""
    for partial in folder.glob(".*.partial"):
        partial.unlink(missing_ok=True)


def try_lock(file: IO[str]) -> bool:
    """Lock an open file for this process; False where another one has it."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                return os.fstat(file.fileno()).st_ino == os.stat(file.name).st_ino  # its last owner may remove it
            return False
    except OSError:
        return False
    return True


@contextmanager
def in_plain_words(path: Path) -> Iterator[None]:
    """Raise BadInput where the system refuses to write `path`. safetensors reports that as text, others as OSError."""
    try:
        yield
    except Exception as error:
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            raise CannotWrite(
                f"{path}: no space left on the disk; free some, then run the command again, a "
                "training with --resume; what was there before is untouched"
            ) from None
        if isinstance(error, OSError) or "os error" in str(error):
            raise CannotWrite(f"{path}: cannot be written ({error}); choose another place") from None
        raise
