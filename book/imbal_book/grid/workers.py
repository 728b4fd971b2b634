"""Worker processes: a pool that shares the cores evenly, and workers that end when their parent does.

This module is light, so that a worker watches its parent before it loads PyTorch, which takes seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

#: Environment of the worker processes: glibc keeps what is freed instead of handing it back to the kernel.
KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**33)}
_STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
#: Option of Linux's prctl: the signal that the kernel sends this process when its parent ends.
_PR_SET_PDEATHSIG = 1


@contextlib.contextmanager
def worker_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes that share the processor's cores evenly; whatever ends the block ends them all."""
    import torch

    threads = max(1, torch.get_num_threads() // jobs)
    # glibc hands large freed blocks back to the kernel at once and asks for them again at the next step; keeping
    # them makes training on a CPU a fifth faster (benchmarks/allocator.py). Read by the workers when they start.
    for name, value in KEEP_FREED_MEMORY.items():
        os.environ.setdefault(name, value)
    pool = ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(threads,)
    )
    # a pool starts its processes as work comes, and does not see one die until an answer arrived after its start; so
    # all are started by work that is answered at once
    for _ in range(jobs):
        pool.submit(os.getpid)
    try:
        yield pool
    except BaseException:
        end_workers(pool)
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def end_workers(pool: ProcessPoolExecutor) -> None:
    """Kill the processes of a pool; of a run, the checkpoint of the last whole epoch stays, as every file does."""
    for process in list((pool._processes or {}).values()):
        process.kill()


def _start_worker(threads: int) -> None:
    # the parent hears of them and ends its workers; a worker that ended by itself would look like one that crashed
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
    import torch

    torch.set_num_threads(threads)


def end_with_parent() -> None:
    """End this worker process when the one that started it is gone, even by SIGKILL, instead of working for nobody.

    Linux's kernel kills it at that moment, whatever it is busy with. Everywhere a thread waits for the parent as well:
    it sees a parent that was gone before the kernel was asked. Nothing happens in a process that is no worker.
    """
    if (parent := multiprocessing.parent_process()) is None:
        return
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a C library without prctl
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(parent: multiprocessing.process.BaseProcess) -> None:
    """Wait for the end of a process, and end this one at once."""
    try:
        parent.join()
    except (TypeError, ValueError):
        # joblib's workers know the number of their parent, but have nothing to wait on
        while os.getppid() == parent.pid:
            time.sleep(0.5)
    os._exit(1)
