"""A wheel works away from the repository: installed into an empty environment, and called from an empty folder."""

import os
import shutil
import site
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import output_of
from conftest import REPO

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SOURCES = (
    "setup.py",
    "settings.ini",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CITATION.cff",
    "nbs",
    "labs",
    "benchmarks/results",
    "vqbet_course",
)


@dataclass(frozen=True)
class Installed:
    """An installed `vqbet-course`, and the folder in which it is called."""

    command: Path
    folder: Path

    def __call__(self, *arguments: str) -> str:
        return run(self.command, *arguments, cwd=self.folder, OMP_NUM_THREADS="1")


def run(*command: object, cwd: Path, **environment: str) -> str:
    """What a command prints that runs away from the repository."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return output_of(*command, cwd=cwd, timeout=800, environment=inherited | environment)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a source distribution that was built from a copy of the repository."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    ignore = shutil.ignore_patterns("__pycache__", ".*", "_runs")
    for name in SOURCES:
        if (REPO / name).is_dir():
            shutil.copytree(REPO / name, copy / name, ignore=ignore)
        else:
            shutil.copy(REPO / name, copy / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy, cwd=out)
    [made] = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an environment of its own, called from an empty folder.

    The environment borrows all other packages from the one that runs the tests."""
    root = tmp_path_factory.mktemp("environment")
    venv.create(root, with_pip=False, symlinks=True)
    python = root / "bin" / "python"
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=root).strip())
    (packages / "borrowed.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    (root / "share" / "jupyter").mkdir(parents=True, exist_ok=True)
    (root / "share" / "jupyter" / "nbconvert").symlink_to(Path(sys.prefix) / "share" / "jupyter" / "nbconvert")
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        "--force-reinstall",
        "--ignore-installed",
        wheel,
        cwd=root,
    )
    where = run(python, "-c", "import vqbet_course; print(vqbet_course.__file__)", cwd=root).strip()
    assert Path(where).is_relative_to(root)
    return Installed(root / "bin" / "vqbet-course", tmp_path_factory.mktemp("empty"))


def test_the_shipped_policy_is_evaluated(installed: Installed) -> None:
    installed("eval", "shipped", "--episodes", "2", "--videos", "0")
    assert list(installed.folder.glob("_runs/shipped/eval/*/run.json"))


def test_the_demonstrations_are_inspected(installed: Installed) -> None:
    assert "200" in installed("demos", "inspect", "demo")


def test_a_lesson_runs(installed: Installed) -> None:
    installed("course", "--only", "00")
    assert (installed.folder / "_runs/course/report.html").exists()


def test_labs_and_types_are_in_the_wheel(wheel: Path) -> None:
    names = run(sys.executable, "-m", "zipfile", "-l", wheel, cwd=wheel.parent)
    for name in ("labs/01_tokens.ipynb", "benchmarks/results/panel.json", "py.typed", "templates/course_report.html"):
        assert f"vqbet_course/{name}" in names, name
