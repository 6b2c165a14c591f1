"""Progress where nobody redraws a line: lines of their own."""

import pytest

from vqbet_course.core import progress as module
from vqbet_course.core.progress import progress


@pytest.fixture(autouse=True)
def pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that is no notebook; pytest's stderr is no terminal."""
    monkeypatch.delitem(module.sys.modules, "ipykernel", raising=False)


def test_work_that_is_over_within_a_minute_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress("work", "step", range(3))) == [0, 1, 2]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "work" in lines[0] and "3/3" in lines[0]


def test_a_line_a_minute(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    list(progress("work", "step", range(3)))
    assert ["1/3", "2/3", "3/3"] == [line.split("|")[2].split()[0] for line in capsys.readouterr().err.splitlines()][:3]


def test_quiet_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(list(progress("work", "step", range(3), quiet=True))) == 3 and capsys.readouterr().err == ""
