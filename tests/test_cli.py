"""The command line: what it loads, and how it says no."""

import errno
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from vqbet_course import cli
from vqbet_course.core.errors import BadInput
from vqbet_course.course import runner as course
from vqbet_course.course.executed import LessonFailure, LessonResult

pytestmark = pytest.mark.fast

Failing = Callable[[BaseException], int]


def loaded_by(code: str) -> set[str]:
    """The top-level modules that are loaded after `code` ran in a fresh interpreter."""
    probe = f"{code}\nimport sys\nprint('loaded', *{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "code",
    [
        "import vqbet_course",
        "from vqbet_course.cli import main\nassert main(['--help']) == 0",
        "from vqbet_course.cli import main\nassert main(['course', '--help']) == 0",
    ],
)
def test_help_loads_nothing_heavy(code: str) -> None:
    heavy = {"torch", "lerobot", "matplotlib", "papermill", "nbformat", "gymnasium", "IPython", "pandas"}
    assert not loaded_by(code) & heavy


def test_the_installed_command_answers() -> None:
    command = Path(sys.executable).with_name("vqbet-course")
    done = subprocess.run([command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "course" in done.stdout


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Failing:
    """Run `vqbet-course course` with its work replaced by one that raises."""

    def run(problem: BaseException) -> int:
        def work(*_: object, **__: object) -> None:
            raise problem

        monkeypatch.setattr(course, "run_course", work)
        return cli.main(["course", "--out", str(tmp_path)])

    return run


@pytest.mark.parametrize(
    ("problem", "status", "said"),
    [
        (BadInput("no such thing:\nuse another"), 2, "error: no such thing: use another\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "run/model"),
            2,
            "error: no space left on device for run/model: free some and run it again, nothing is lost\n",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            2,
            "error: no space left on device: free some and run it again, nothing is lost\n",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line(
    failing: Failing, problem: Exception, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing(problem) == status
    assert capsys.readouterr().err == said


def test_an_interrupt_is_130(failing: Failing, capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


def test_a_bug_shows_its_traceback(failing: Failing) -> None:
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError())


def commands_below(group: click.Group, *names: str) -> Iterator[tuple[str, ...]]:
    """The names of all commands, each with those of its groups."""
    for name, command in group.commands.items():
        yield (*names, name)
        if isinstance(command, click.Group):
            yield from commands_below(command, *names, name)


@pytest.mark.parametrize("command", [(), *commands_below(cli.cli)], ids=" ".join)
def test_bad_usage_of_every_command_is_one_line_that_says_where_help_is(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, "--no-such-option"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "--no-such-option" in said
    assert " ".join(["vqbet-course", *command, "--help"]) in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["course", "--profile", "huge"], "quick"),
        (["cours"], "cours"),
        (["course", "extra"], "extra"),
        (["course", "--only"], "--help"),
        (["release"], "--out"),
        (["grade"], "SUBMISSION|FOLDER|ZIP"),
        (["gradebook", "grades", "--due", "tomorrow", "--out", "book.csv"], "tomorrow"),
        (["train"], "--resume RUN"),
    ],
)
def test_bad_usage_says_what_is_wrong(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and said in line


@pytest.mark.parametrize("group", [[], ["demos"]])
def test_a_group_alone_lists_its_commands(group: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(group) == 2
    assert "Commands:" in capsys.readouterr().err


def test_an_unknown_lesson_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["course", "--only", "77", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: no lesson")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("ok", "status"), [(True, 0), (False, 1)])
def test_the_status_tells_whether_lessons_failed(
    ok: bool, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failure = None if ok else LessonFailure("cell 1 of 1", "", "broken")
    result = LessonResult("00_lesson", "A lesson", 1.0, failure=failure)
    monkeypatch.setattr(course, "run_course", lambda *_, **__: [result])
    assert cli.main(["course", "--out", str(tmp_path)]) == status
