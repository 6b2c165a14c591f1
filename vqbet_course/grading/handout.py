"""Folders that are handed out or back: written again, they hold what is new and nothing of the run before.

A hidden file lists what was written, with checksums. So a file of the run before is replaced or removed, and one that
somebody else made or changed is never touched.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from vqbet_course.core.errors import BadInput
from vqbet_course.core.io import write_json, write_text

LONGEST = 180
"""Bytes of a name without its mark; no file system takes more than 255, a suffix and that of a partial file included."""

UNSAFE = re.compile(r'[\\:*?"<>|~\x00-\x1f]|^\.|[. ]$')
"""What some file systems do not take, or hide; `~` begins a mark."""

WRITTEN = ".written-by-vqbet-course.json"
"""The list of what was written, {file: checksums}. A learning platform passes over hidden files."""


def replace_files(out: Path, files: Mapping[str, str]) -> list[Path]:
    """Write text files, {place in the folder: text}, and remove those that were written before and are none of them;
    returns the removed ones.

    Raises BadInput, before anything is written, where a file in the way was made or changed by somebody else.
    """
    sums = {name: [digest_of(text.encode())] for name, text in files.items()}
    before = written_before(out)
    for name in {**before, **sums}:
        path = out / name
        if (path.exists() or path.is_symlink()) and held(path) not in before.get(name, []) + sums.get(name, []):
            raise BadInput(f"{path}: was made or changed by somebody else; move it away, or choose another --out")
    both = before | {name: before.get(name, []) + new for name, new in sums.items()}
    write_json(out / WRITTEN, both)  # a run that is killed below can be done again
    for name, text in files.items():
        write_text(out / name, text)
    removed = [out / name for name in before if name not in sums and (out / name).exists()]
    for path in removed:
        path.unlink()
        if path.parent != out and not any(path.parent.iterdir()):
            path.parent.rmdir()
    write_json(out / WRITTEN, sums)
    return removed


def readable_name(name: str) -> str:
    """A name for a file or folder: the submission's own, so that a teacher and a learning platform find it. Where a
    file system might not take that, other characters stand in it, and a mark that no other name gets."""
    plain = UNSAFE.sub("_", name.replace("/", " - "))
    if len(plain.encode()) > LONGEST:
        plain = plain.encode()[:LONGEST].decode(errors="ignore")
    return plain if plain == name else f"{plain} ~{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def keep_out_of_repositories(out: Path) -> None:
    """Make git pass over a new folder: it will hold names and grades of people. One that exists is not touched."""
    if not out.exists():
        write_text(out / ".gitignore", "*\n")


def written_before(out: Path) -> dict[str, list[str]]:
    """What a run before wrote into a folder, {place: its checksums}. Raises BadInput for a damaged list."""
    if not (out / WRITTEN).is_file():
        return {}
    try:
        listed = json.loads((out / WRITTEN).read_text(encoding="utf-8"))
        found = {str(name): [*map(str, sums)] for name, sums in listed.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        found = {"..": []}
    if any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in found):
        raise BadInput(f"{out / WRITTEN}: damaged, so what may be replaced is not known; choose another --out")
    return found


def held(path: Path) -> str:
    """The checksum of a file; empty for what is none."""
    return digest_of(path.read_bytes()) if path.is_file() and not path.is_symlink() else ""


def digest_of(data: bytes) -> str:
    """SHA-256 as `sha256sum` writes it."""
    return hashlib.sha256(data).hexdigest()
