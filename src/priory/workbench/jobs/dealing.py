"""Run tasks in this process, in processes of this machine, or on a Dask cluster."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from priory._support.optional import require

Item = TypeVar("Item")
Result = TypeVar("Result")
SECONDS_TO_CONNECT = 5
# Workers ignore Ctrl-C; this process handles it and ends them.
IGNORE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


class Deal(Protocol):
    """Apply a function to items; yield pairs of an item and its result in the order of completion."""

    def __call__(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[Item, Result | BaseException]]: ...


@contextmanager
def dealing(workers: int | None, scheduler: str | None) -> Iterator[Deal]:
    """Yield a function that runs tasks in this process, in `workers` processes, or on the workers of a Dask cluster.

    Dask moves the tasks of a lost worker to others. If a task loses four workers, its result is the error.

    Args:
        workers: number of processes on this machine, with one thread each.
        scheduler: the address of a Dask scheduler, such as tcp://host:8786, or the file that it writes.

    Raises:
        ImportError: Dask is not installed.
        OSError: no scheduler answers.
    """
    if workers is None and scheduler is None:
        yield lambda function, items: ((item, function(item)) for item in items)
        return
    dask = require("distributed", "scale", "--workers" if scheduler is None else "--scheduler")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # failures are reported as results
    if scheduler is not None:
        with _client(dask, scheduler) as client:
            yield lambda function, items: _dealt(dask, client, function, items)
        return
    options = {
        "n_workers": workers,
        "threads_per_worker": 1,
        "processes": True,
        "memory_limit": 0,
        "preload": IGNORE_CTRL_C,
    }
    with (
        dask.LocalCluster(**options, dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL) as cluster,
        dask.Client(cluster) as client,
    ):
        yield lambda function, items: _dealt(dask, client, function, items)


def _client(dask: Any, scheduler: str) -> Any:
    """Connect to a running cluster."""
    is_file = "://" not in scheduler and Path(scheduler).is_file()
    if not is_file and ":" not in scheduler:
        raise FileNotFoundError(
            f"--scheduler: expected an address such as tcp://host:8786, or a scheduler's file, got {scheduler!r}, "
            "which is neither; check the spelling"
        )
    try:
        return dask.Client(**{"scheduler_file" if is_file else "address": scheduler}, timeout=SECONDS_TO_CONNECT)
    except (OSError, ValueError) as error:
        raise OSError(
            f"--scheduler {scheduler}: expected the address of a Dask scheduler, but none answers there within "
            f"{SECONDS_TO_CONNECT} seconds; check the address, or start one: dask scheduler"
        ) from error


def _dealt(
    dask: Any, client: Any, function: Callable[[Item], Result], items: Sequence[Item]
) -> Iterator[tuple[Item, Result | BaseException]]:
    futures = dict(zip(client.map(function, items, pure=False), items, strict=True))
    for future in dask.as_completed(list(futures)):
        yield futures.pop(future), future.result() if future.status == "finished" else future.exception()
        future.release()
