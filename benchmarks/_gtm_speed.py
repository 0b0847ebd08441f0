"""Time of a fit beside the published packages and the floor of the hardware, and its growth."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from _gtm_packages import PRIORY, Array, Model, Package, Settings, fit_priory
from _map_judging import true_log_likelihood

Row = dict[str, Any]
NUM_ROWS, NUM_COLUMNS = 8000, 784
FEW, MANY = 2, 22  # iterations of two fits; their difference excludes the initialization
# Rows, columns and points per side; the key is the quantity that varies.
GROWTH = {
    "N": [(n, 50, 20) for n in (10_000, 31_623, 100_000, 316_228, 1_000_000)],
    "D": [(2000, d, 20) for d in (50, 158, 500, 1581, 5000, 20_000)],
    "K": [(10_000, 100, side) for side in (8, 11, 16, 23, 32, 40)],
}


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Use this number of threads in torch, numpy, scipy and scikit-learn inside the block."""
    before = torch.get_num_threads()
    with threadpool_limits(number):
        torch.set_num_threads(number)
        yield
    torch.set_num_threads(before)


def images(data_dir: str | None, num_rows: int) -> Array:
    """Return gray MNIST in [0, 1]; without the folder, noise around a curved sheet with as many columns."""
    if data_dir is not None:
        with np.load(os.path.join(data_dir, "mnist.npz"), allow_pickle=False) as arrays:
            return arrays["train_x"][:num_rows] / 255.0
    return sheet(num_rows, NUM_COLUMNS)


def sheet(num_rows: int, num_columns: int, seed: int = 0) -> Array:
    """Return rows near a curved two-dimensional sheet: sines of random directions, and noise of scale 0.2."""
    generator = np.random.default_rng(seed)
    u = generator.uniform(-1, 1, (num_rows, 2))
    directions = generator.normal(0, 2, (2, num_columns))
    x = u @ directions
    np.sin(x, out=x)
    for start in range(0, num_rows, 10_000):
        x[start : start + 10_000] += generator.normal(0, 0.2, x[start : start + 10_000].shape)
    return x


class Taken(NamedTuple):
    """Seconds of the clock, and processor seconds of all threads, which other work on the machine hardly changes."""

    wall: float
    processor: float


def seconds(function: Callable[[], Any]) -> tuple[Taken, Any]:
    """Return the time of one call, and its result."""
    start = time.perf_counter(), time.process_time()
    result = function()
    return Taken(time.perf_counter() - start[0], time.process_time() - start[1]), result


def median(taken: list[Taken], field: str) -> float:
    return statistics.median(getattr(each, field) for each in taken)


def ratio(taken: list[Taken], others: list[Taken], field: str) -> float:
    """Return the median ratio of two functions that took turns."""
    return statistics.median(getattr(a, field) / getattr(b, field) for a, b in zip(taken, others, strict=True))


def true_value(model: Model, x: Array) -> float:
    """Return nats per row, from the explicit mixture."""
    return true_log_likelihood(x, model.means, model.noise_variance, model.shift, model.scale)


def compare(package: Package, x: Array, settings: Settings, repeats: int) -> Row:
    """Time each fit of a package between two fits of priory; compute the likelihoods of the fitted models once."""
    first, gtm = seconds(lambda: PRIORY.fit(x, settings))
    assert gtm.n_iter_ == settings.iterations
    ours, theirs, around = [first], [], []
    for _ in range(repeats):
        with np.errstate(all="ignore"):
            taken, fitted = seconds(lambda: package.fit(x, settings))
        theirs.append(taken)
        ours.append(seconds(lambda: PRIORY.fit(x, settings))[0])
        around.append(Taken(*((a + b) / 2 for a, b in zip(*ours[-2:], strict=True))))
    times = {
        "repeats": repeats,
        "priory s": median(ours, "wall"),
        "s": median(theirs, "wall"),
        "times as long": ratio(theirs, around, "wall"),
        "times the processor": ratio(theirs, around, "processor"),
    }
    plain = PRIORY.read(fit_priory(x, settings, annealing=0), x)
    with np.errstate(all="ignore"):
        other = package.read(fitted, x)
        return times | values(PRIORY.read(gtm, x), other, x) | {"priory, plain EM": true_value(plain, x)}


def values(own: Model, other: Model, x: Array) -> Row:
    """Return the likelihoods of both models, the true ones and the claimed ones."""
    truth, own_truth = true_value(other, x), true_value(own, x)
    return {
        "true, nats a row": truth,
        "its claim": other.claim(),
        "priory true": own_truth,
        "priory claim": own.claim(),
        "priory better by": own_truth - truth,
    }


def speed(package: Package, data_dir: str | None, number: int, repeats: int, num_rows: int = NUM_ROWS) -> Row:
    """Return one row of the table; if the package raises an error, the error is its remark."""
    x, settings = images(data_dir, num_rows), Settings()
    start = {"package": package.label, "threads": number}
    with threads(number):
        fit_priory(x[:500], settings._replace(iterations=2))
        try:
            return start | compare(package, x, settings, repeats) | {"remark": package.remark}
        except (ArithmeticError, ValueError, RuntimeError) as error:
            return start | {"remark": f"{type(error).__name__}: {error}"}


def floor(data_dir: str | None, number: int, repeats: int, num_rows: int = NUM_ROWS) -> Row:
    """Time one iteration of priory beside the matrix products X Y' and R' X, and N x K exponentials, of an E-step."""
    x, settings = images(data_dir, num_rows), Settings()
    points = torch.from_numpy(x)
    nodes = torch.randn(settings.points_per_side**2, x.shape[1], dtype=torch.float64)
    scores, sums = points @ nodes.mT, torch.empty_like(nodes)

    def products() -> None:
        torch.mm(points, nodes.mT, out=scores)
        torch.exp(scores, out=scores)
        torch.mm(scores.mT, points, out=sums)

    ours, floors, whole = [], [], []
    with threads(number):
        products()
        for _ in range(repeats):
            few, _ = seconds(lambda: fit_priory(x, settings._replace(iterations=FEW)))
            many, _ = seconds(lambda: fit_priory(x, settings._replace(iterations=MANY)))
            ours.append(_each(few, many, MANY - FEW))
            whole.append(_each(Taken(0.0, 0.0), many, MANY))
            scores.normal_()
            taken, _ = seconds(lambda: [(scores.clamp_(-1, 0), products()) for _ in range(MANY - FEW)])
            floors.append(_each(Taken(0.0, 0.0), taken, MANY - FEW))
    return {
        "threads": number,
        "ms an iteration": 1e3 * median(ours, "wall"),
        "ms, initialization spread over 22": 1e3 * median(whole, "wall"),
        "floor ms": 1e3 * median(floors, "wall"),
        "iteration / floor": ratio(ours, floors, "wall"),
        "processor / floor's": ratio(ours, floors, "processor"),
    }


def _each(few: Taken, many: Taken, more: int) -> Taken:
    """Return the times of one of `more` iterations."""
    return Taken(*((b - a) / more for a, b in zip(few, many, strict=True)))


def growth(which: str, quick: bool) -> Iterator[Row]:
    """Yield the processor seconds per iteration for every size, on one thread; the median of three differences."""
    for num_rows, num_columns, side in GROWTH[which][:2] if quick else GROWTH[which]:
        x, settings = sheet(num_rows, num_columns), Settings(points_per_side=side, basis_per_side=8)
        more = 3 if num_rows * num_columns * side**2 > 4e9 else 12
        with threads(1):
            taken = [_per_iteration(x, settings, more) for _ in range(3)]
        each, start = ([pair[i].processor for pair in taken] for i in (0, 1))
        row = {"varies": which, "N": num_rows, "D": num_columns, "K": side**2}
        yield row | {"s an iteration": statistics.median(each), "s before the first": statistics.median(start)}


def _per_iteration(x: Array, settings: Settings, more: int) -> tuple[Taken, Taken]:
    few, _ = seconds(lambda: fit_priory(x, settings._replace(iterations=FEW)))
    many, _ = seconds(lambda: fit_priory(x, settings._replace(iterations=FEW + more)))
    each = _each(few, many, more)
    return each, Taken(*(a - FEW * b for a, b in zip(few, each, strict=True)))


CHILD = """
import json, sys, tempfile, time
from pathlib import Path
import numpy as np
from _gtm_packages import Settings, fit_priory
from _gtm_speed import sheet, threads

def megabytes(name):  # ru_maxrss would start at the parent's value
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) / 1024

N, D = json.loads(sys.argv[1])
with tempfile.TemporaryDirectory() as folder:
    x = np.lib.format.open_memmap(Path(folder) / "x.npy", "w+", np.float64, (N, D))
    for start in range(0, N, 10_000):
        x[start : start + 10_000] = sheet(min(10_000, N - start), D, seed=start)
    x.flush()
    del x
    x = np.load(Path(folder) / "x.npy", mmap_mode="r")
    before = megabytes("VmRSS")
    with threads(1):
        start = time.perf_counter()
        gtm = fit_priory(x, Settings(points_per_side=20, basis_per_side=10, iterations=3))
    print(json.dumps({"MB before": before, "peak MB": megabytes("VmHWM"), "s": time.perf_counter() - start}))
"""


def memory(num_rows: int = 1_000_000, num_columns: int = 50) -> Row:
    """Measure the peak resident memory of a process that fits a memory-mapped file, including pages of the file."""
    result = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([num_rows, num_columns])],
        cwd=os.path.dirname(__file__),
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    data = {"N": num_rows, "D": num_columns, "K": 400, "file MB": num_rows * num_columns * 8 / 2**20}
    return data | json.loads(result.stdout)
