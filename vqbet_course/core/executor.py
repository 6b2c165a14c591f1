"""Executors that run jobs in processes of this machine, or on the workers of a Dask cluster."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from vqbet_course.core.errors import BadInput

AHEAD = 32
"""Jobs that wait in an executor's queue; each carries its data, so that all of them might not fit into memory."""


def end_with_parent() -> None:
    """End this process when its parent is killed, or at Ctrl-C: no process would read its result."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    when_parent_ends(lambda: os._exit(1))


def when_parent_ends(act: Callable[[], None]) -> None:
    """Call `act`, in a thread, when the process that started this one has ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        act()

    threading.Thread(target=watch, daemon=True).start()


@dataclass(frozen=True)
class Workers:
    """Who does the jobs: so many processes of this machine or, if `dask` is the address of a Dask scheduler, its workers."""

    jobs: int = 1
    dask: str | None = None


@contextmanager
def executor(workers: Workers) -> Iterator[Executor]:
    """An executor of these workers.

    Raises BadInput when the scheduler does not answer, has no worker, or has one with several threads (PyTorch has one
    global generator per process), and when processes or the cluster are lost.
    """
    with processes(workers.jobs) if workers.dask is None else dask_workers(workers.dask) as pool:
        yield pool


@contextmanager
def processes(jobs: int) -> Iterator[Executor]:
    """An executor of processes, each with one thread of PyTorch."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=end_with_parent) as pool:
        try:
            yield pool
        except BrokenProcessPool:
            raise BadInput(
                "a process was killed, perhaps because memory ran out; run the same command again, with "
                "fewer --jobs: what is finished is kept"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C does not wait for what has not begun


@contextmanager
def dask_workers(address: str) -> Iterator[Executor]:
    """An executor of the workers of a Dask scheduler; it repeats the jobs of a worker that was lost."""
    from distributed import Client, KilledWorker

    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # errors become one line below
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError, TimeoutError) as error:
        raise BadInput(f"--dask {address}: no scheduler answers there ({type(error).__name__})") from None
    with client:
        threads = client.nthreads().values()
        if not threads:
            raise BadInput(f"--dask {address}: it has no worker; start some with: dask worker {address} --nthreads 1")
        if max(threads) > 1:
            raise BadInput("a Dask worker has several threads; start the workers with --nthreads 1")
        try:
            yield client.get_executor(pure=False)
        except (KilledWorker, CancelledError) as error:
            raise BadInput(
                f"--dask {address}: the cluster was lost ({type(error).__name__}); start it again and run "
                "the same command: what is finished is kept"
            ) from None


def completed[Item](
    pool: Executor, function: Callable[..., Any], calls: Iterable[tuple[Item, tuple[Any, ...]]]
) -> Iterator[tuple[Item, "Future[Any]"]]:
    """Pairs of an item and its finished future, for calls (item, arguments), in the order in which they finish.

    At most AHEAD of the calls are taken from the iterable before they are needed.
    """
    left, running = iter(calls), dict[Any, Item]()
    while True:
        for item, arguments in islice(left, AHEAD - len(running)):
            running[pool.submit(function, *arguments)] = item
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            yield running.pop(future), future
