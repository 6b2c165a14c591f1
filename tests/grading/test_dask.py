"""A class on the workers of a Dask cluster, one of which is killed."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from grading_labs import solved

from vqbet_course.core.executor import Workers
from vqbet_course.grading import gradebook, grader


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_worker_costs_no_grade(tmp_path: Path) -> None:
    from distributed import LocalCluster

    folder = tmp_path / "class"
    folder.mkdir()
    for n in range(6):
        (folder / f"{n}.ipynb").write_text(json.dumps(solved("01_tokens")))
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        victim = next(iter(cluster.workers.values())).pid

        def kill() -> None:
            while not any((tmp_path / "out" / "students").glob("*/report.json")):
                time.sleep(0.1)
            os.kill(victim, signal.SIGKILL)

        threading.Thread(target=kill, daemon=True).start()
        problems = grader.grade(
            folder,
            tmp_path / "out",
            Workers(dask=cluster.scheduler_address),
            options=grader.Options(execute=False),
            quiet=True,
        )
    assert not problems
    assert [row["score"] for row in gradebook.existing(tmp_path / "out")] == [10] * 6
