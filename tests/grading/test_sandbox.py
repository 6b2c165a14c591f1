"""Where a sandbox works and where it does not: other users, machines that refuse namespaces, killed processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from grading_labs import solved

from vqbet_course.core.errors import BadInput
from vqbet_course.grading import grader, sandbox

LAB = "01_tokens"
COMMAND = [sys.executable, "-m", "vqbet_course.cli", "grade"]
ALONE = ["unshare", "--user", "--map-root-user", "sh", "-c"]
"""A shell as the only user of a namespace, as root is in some containers."""

FORBID = "echo 0 > /proc/sys/user/max_user_namespaces && "


def works(command: list[str]) -> bool:
    """Whether a command can be run here."""
    return bool(shutil.which(command[0])) and subprocess.run(command, capture_output=True).returncode == 0


needs_namespaces = pytest.mark.skipif(
    not (works([*ALONE, FORBID + "true"]) and sandbox.bubblewrap_works()), reason="namespaces cannot be tried here"
)


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """A submission in which every exercise is solved."""
    (tmp_path / "ada.ipynb").write_text(json.dumps(solved(LAB)))
    return tmp_path / "ada.ipynb"


def graded_alone(one: Path, before: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Grade in a namespace of its own, after another command."""
    command = [*COMMAND, str(one), "--no-execute", "--out", str(one.parent / "out"), *options]
    quoted = " ".join(f"'{part}'" for part in command)
    return subprocess.run([*ALONE, before + quoted], capture_output=True, text=True)


def score(one: Path) -> tuple[int, str]:
    """The points of the submission, and its page."""
    folder = one.parent / "out" / "students" / "ada"
    return json.loads((folder / "report.json").read_text())["score"], (folder / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.timeout(300)
@needs_namespaces
def test_root_that_can_become_nobody_else_grades_in_a_sandbox(one: Path) -> None:
    done = graded_alone(one, "")
    assert done.returncode == 0 and "sandbox" not in done.stderr
    assert score(one)[0] == 10 and "not enforced" not in score(one)[1]


@pytest.mark.slow
@pytest.mark.timeout(300)
@needs_namespaces
def test_a_machine_that_refuses_namespaces_grades_with_a_word(one: Path) -> None:
    done = graded_alone(one, FORBID)
    first, *_, last = done.stderr.splitlines()
    assert done.returncode == 0 and "max_user_namespaces" in first and "--require-sandbox" in first
    assert last.startswith("1 file: 1 graded (1 not fully protected)")
    assert score(one)[0] == 10 and "not enforced on this machine" in score(one)[1]


@needs_namespaces
def test_a_machine_that_refuses_namespaces_refuses_where_a_sandbox_is_asked_for(one: Path) -> None:
    done = graded_alone(one, FORBID, "--require-sandbox")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "max_user_namespaces" in done.stderr
    assert not (one.parent / "out").exists()


def test_without_bubblewrap_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "apt-get install bubblewrap" in sandbox.sandbox_problem.__wrapped__()


@pytest.mark.parametrize(
    "said, remedy",
    [
        ("bwrap: No permissions to create new namespace", "max_user_namespaces"),
        ("bwrap: setting up uid map: Permission denied", "apparmor_restrict_unprivileged_userns"),
        ("bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted", "apparmor_restrict_unprivileged_userns"),
        ("bwrap: execvp /home/ada/python: Permission denied", "/usr"),
        ("python: error while loading shared libraries: libz.so.1", "/usr"),
    ],
)
def test_each_way_in_which_bubblewrap_fails_has_its_remedy(
    said: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bwrap").write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    problem = sandbox.sandbox_problem.__wrapped__()
    assert said in problem and remedy in problem.replace(said, "") and "\n" not in problem


def test_filters_are_tried() -> None:
    assert sandbox.filters_work.__wrapped__() == ("Seccomp:" in Path("/proc/self/status").read_text())


@pytest.mark.skipif(not sandbox.bubblewrap_works(), reason="bubblewrap does not work here")
def test_a_kernel_that_filters_no_calls_is_said_so_or_refused(
    one: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sandbox, "filters_work", lambda: False)
    monkeypatch.setattr(grader, "find_submissions", lambda target: [])
    grader.grade(one, one.parent / "out")
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("not enforced on this machine: the kernel refuses no system calls")
    with pytest.raises(BadInput, match="system calls"):
        grader.grade(one, one.parent / "out", options=grader.Options(require_sandbox=True))
    assert grader.unenforced()


@pytest.mark.parametrize(
    "maps, users",
    [
        (["0 0 4294967295"] * 2, range(2_000_000, 3_000_000)),
        (["0 1000 1\n1 100000 65536"] * 2, range(60_000, 65_000)),
        (["0 1000 1"] * 2, range(0)),
        (["0 0 4294967295", "0 1000 1"], range(0)),
    ],
)
def test_root_becomes_users_that_its_machine_knows(
    maps: list[str], users: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"/proc/self/uid_map": maps[0], "/proc/self/gid_map": maps[1]}
    monkeypatch.setattr(Path, "read_text", lambda path: texts[str(path)])
    assert sandbox.free_users.__wrapped__() == users


# --- what a kill leaves -------------------------------------------------------------------------------------


def test_folders_of_killed_processes_are_removed_and_no_others() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    temporary = Path(tempfile.gettempdir())
    left, living, foreign = (
        temporary / f"{sandbox.SCRATCH}-{owner}-test" for owner in (ended.pid, os.getpid(), "nobody")
    )
    try:
        for folder in (left, living, foreign):
            (folder / "below").mkdir(parents=True)
        with sandbox.scratch_folder():
            assert not left.exists() and living.exists() and foreign.exists()
    finally:
        for folder in (left, living, foreign):
            shutil.rmtree(folder, ignore_errors=True)


STARTED = """
import time
from vqbet_course.core.errors import BadInput
from vqbet_course.grading import grader, sandbox
from vqbet_course.grading.lessons import all_labs
with sandbox.Sandbox(all_labs()["01_tokens"]) as box:
    box.start()
    print("started", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(not sandbox.bubblewrap_works(), reason="bubblewrap does not work here")
def test_a_killed_grader_leaves_no_sandbox_and_no_folder() -> None:
    grading = psutil.Popen([sys.executable, "-c", STARTED], stdout=subprocess.PIPE, text=True)
    assert grading.stdout.readline() == "started\n"
    boxes = grading.children(recursive=True)
    assert boxes
    os.kill(grading.pid, signal.SIGKILL)
    grading.wait()
    end = time.monotonic() + 30
    while any(box.is_running() and box.status() != psutil.STATUS_ZOMBIE for box in boxes):
        assert time.monotonic() < end, "the sandbox lives on"
        time.sleep(0.1)
    own = f"{sandbox.SCRATCH}-{grading.pid}-*"  # other tests have folders of their own there
    assert not [*Path(tempfile.gettempdir()).glob(own)]
