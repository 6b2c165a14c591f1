"""One sandbox serves the submissions of a class, one after the other, and nothing of one reaches the next."""

import json
from collections.abc import Iterator

import pytest
from grading_labs import solved

from vqbet_course.grading import grader, sandbox
from vqbet_course.grading.answers import Answer
from vqbet_course.grading.judging import judge_answer, make_job
from vqbet_course.grading.lessons import all_labs
from vqbet_course.grading.limits import Limits
from vqbet_course.grading.sandbox import KEPT, Sandbox, end_kept, kept_sandbox
from vqbet_course.grading.submissions import find_answers, read_notebook_of

pytestmark = pytest.mark.skipif(not sandbox.bubblewrap_works(), reason="bubblewrap does not work here")

LAB = all_labs()["01_tokens"]
LIMITS = Limits(seconds=30, wall=60)


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    yield
    end_kept()


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(LAB) as opened:
        yield opened


def raises(box: Sandbox, source: str) -> str:
    """What a cell raises in a sandbox; nothing if it gets to its definition, which is missing."""
    answer = Answer(source + "\nraise LookupError")
    _, said = box.run(make_job("1.1", 1, answer), LIMITS)
    return judge_answer("1.1", 1, answer.source, said).message.removeprefix("it raises ").split(" in line")[0]


LEFT_BEHIND = {
    "a file": "open('/tmp/left', 'w').close()",
    "a hidden folder": "import os; os.makedirs('/tmp/.left/below'); os.chmod('/tmp/.left', 0)",
    "a link": "import os; os.symlink('/', '/tmp/left')",
    "a deep tree": "import os\nfor _ in range(3000):\n    os.mkdir('left'); os.chdir('left')",
    "a read-only folder": "import os; os.makedirs('/tmp/left/below'); os.chmod('/tmp/left', 0o500)",
}


@pytest.mark.parametrize("what", LEFT_BEHIND)
def test_the_next_answer_finds_an_empty_folder(what: str, box: Sandbox) -> None:
    assert raises(box, LEFT_BEHIND[what]) == "LookupError"
    assert raises(box, "import os\nassert os.listdir('/tmp') == [] and os.path.isdir('/')") == "LookupError"
    assert raises(box, "open('/tmp/mine', 'w').close()") == "LookupError"


REFUSED = {
    "message queue": "import ctypes; assert ctypes.CDLL('librt.so.1', use_errno=True).mq_open(b'/left', 66, 438, 0) < 0",
    "limits of the runner": "import resource, os; resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (16, 16))",
    "rank of the runner": "import os; os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "port": "import socket; socket.socket()",
    "memory of the first process": "open('/proc/1/mem', 'r+b')",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_outlive_an_answer_is_refused(what: str, box: Sandbox) -> None:
    expected = "LookupError" if what == "message queue" else "PermissionError"
    assert raises(box, REFUSED[what]) == expected


def test_limits_of_its_own_and_local_sockets_are_an_answers_own(box: Sandbox) -> None:
    code = "import resource, socket; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); socket.socketpair()"
    assert raises(box, code) == "LookupError"


def test_a_sandbox_is_kept_for_the_next_submission_of_the_lab_alone() -> None:
    answers, _ = find_answers(read_notebook_of(json.dumps(solved(LAB.name)).encode()))
    seen = []
    for _ in range(2):
        grader.score(LAB, answers, grader.Options(LIMITS, execute=False))
        process = KEPT[LAB.name].process
        assert process is not None
        seen.append(process.pid)
    assert seen[0] == seen[1]
    with kept_sandbox(all_labs()["05_heads"]):
        assert process.poll() is not None, "another lab ends it: each holds torch"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["08_train", "12_vision"])
def test_what_an_import_leaves_in_the_temporary_folder_does_not_end_the_sandbox(name: str) -> None:
    """A new sandbox for each exercise would cost ten seconds each."""
    first = next(iter(all_labs()[name].exercises))
    with Sandbox(all_labs()[name]) as box:
        box.start()
        process = box.process
        ended, _ = box.run(make_job(first, 1, Answer("raise LookupError")), LIMITS)
        assert ended == "finished" and process is not None and box.process is process


def test_a_sandbox_that_was_killed_is_started_again() -> None:
    with kept_sandbox(LAB) as box:
        box.start()
        assert box.process is not None
    box.process.kill()
    box.process.wait()
    with kept_sandbox(LAB) as again:
        assert again is box and raises(again, "") == "LookupError"


def test_what_went_wrong_is_not_kept() -> None:
    with pytest.raises(KeyboardInterrupt), kept_sandbox(LAB) as box:
        box.start()
        raise KeyboardInterrupt
    assert box.process is None and not KEPT
