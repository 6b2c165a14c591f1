"""Where lessons, labs and stored results are: in a clone of the repository, or inside an installed wheel."""

from collections.abc import Sequence
from pathlib import Path

from vqbet_course.core.errors import BadInput

PACKAGE = Path(__file__).resolve().parents[1]


def root_of(package: Path) -> Path:
    """The folder that holds `nbs/`, `labs/` and `benchmarks/results/`: the clone around a package, or the package
    itself, into which a wheel copies them (setup.py)."""
    clone = package.parent
    return clone if (clone / "settings.ini").exists() and (clone / "nbs").is_dir() else package


ROOT = root_of(PACKAGE)
LESSONS = ROOT / "nbs"
LABS = ROOT / "labs"
RESULTS = ROOT / "benchmarks" / "results"


def find_lessons(folder: Path = LESSONS, only: Sequence[str] | None = None) -> list[Path]:
    """The lessons `NN_name.ipynb` of `folder` in order; with `only`, those numbers. Raises BadInput: unknown lesson."""
    lessons = {path.name[:2]: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    if not lessons:
        raise BadInput(f"no lessons in {folder}: install vqbet_course again, or run it from a clone of its repository")
    if only is None:
        return list(lessons.values())
    numbers = {number.strip().zfill(2) if number.strip() else "(empty)" for number in only}
    if unknown := sorted(numbers - lessons.keys()):
        raise BadInput(f"no lesson {', '.join(unknown)}: choose from {', '.join(lessons)}")
    return [lessons[number] for number in lessons if number in numbers]
