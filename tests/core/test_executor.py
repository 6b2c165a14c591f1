"""Processes and Dask workers behind one executor."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from vqbet_course.core import executor
from vqbet_course.core.errors import BadInput
from vqbet_course.core.executor import Workers

pytestmark = pytest.mark.fast


def test_jobs_finish_in_any_order_and_each_keeps_its_name() -> None:
    with executor.executor(Workers(2)) as pool:
        found = {
            name: future.result()
            for name, future in executor.completed(pool, abs, ((str(n), (n,)) for n in range(-70, 0)))
        }
    assert found == {str(n): -n for n in range(-70, 0)}


def test_calls_are_taken_when_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(executor, "AHEAD", 2)
    with executor.executor(Workers()) as pool:
        done = executor.completed(pool, abs, ((n, (taken.append(n) or n,)) for n in range(9)))
        next(done)
        assert len(taken) <= 2
        assert len(list(done)) == 8


def test_a_killed_process_is_told_in_one_line() -> None:
    with (
        pytest.raises(BadInput, match="was killed.*run the same command again.*--jobs"),
        executor.executor(Workers()) as pool,
    ):
        pool.submit(os._exit, 1).result()


def test_a_worker_with_several_threads_is_refused() -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        with pytest.raises(BadInput, match="--nthreads 1"), executor.executor(Workers(dask=cluster.scheduler_address)):
            pass


def leave_a_mark(path: Path) -> None:
    """A job that takes a while."""
    time.sleep(0.2)
    path.touch()


def test_ctrl_c_begins_no_other_job(tmp_path: Path) -> None:
    marks = [tmp_path / str(number) for number in range(9)]
    with pytest.raises(KeyboardInterrupt), executor.executor(Workers()) as pool:
        first, *_ = [pool.submit(leave_a_mark, mark) for mark in marks]
        first.result()
        raise KeyboardInterrupt
    assert marks[0].exists() and not marks[-1].exists()


PARENT = """
import os, sys, time
from vqbet_course.core.executor import Workers, executor
if __name__ == "__main__":
    with executor(Workers()) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(60)
"""


def test_a_process_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not child.is_running() or child.status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    pytest.fail("the process outlives its parent by 10 s")
