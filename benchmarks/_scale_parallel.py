"""Rows in parallel: rows per second and core, fixed costs, and a simulation that is checked by a run of 1000 parts.

python benchmarks/_scale_parallel.py        # about ten minutes
"""

import heapq
import json
import os
import shutil
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from priory.workbench.data.parts import Part, numbered, parts_of
from priory.workbench.jobs.dealing import dealing
from priory.workbench.jobs.kinds import opened
from priory.workbench.jobs.parts import PartsJob, do_part
from priory.workbench.jobs.vae import new_run, train
from priory.workbench.settings.run import RunSettings

COLUMNS = 100
RESULT = Path(__file__).parent / "results" / "scale_parallel.json"
SMALL = {"parts": 1000, "rows": 50}  # the run that checks the simulation
# The passes over rows: options, and numbers of rows.
PASSES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "embed": ({}, (10_000, 100_000, 1_000_000)),
    "map": ({"num_samples": 64, "predict": ()}, (1_000, 10_000, 30_000)),
    "score": ({"num_samples": 64, "seed": 0}, (1_000, 10_000, 50_000)),
    "score 512": ({"num_samples": 512, "seed": 0}, (300, 1_000, 3_000)),
    "evaluate": ({"num_samples": 64, "seed": 0}, (1_000, 10_000, 20_000)),
}
DISK_BYTES = 500e6  # per second, of one file system that all workers read
SIMULATED = {"rows": 10**9, "rows_of_a_part": 10**6, "cores": (1, 16, 256, 4096)}


def trained(folder: Path) -> Path:
    """Train a VAE with a map: 100 columns, 16 latent dimensions, layers of 128. Return its run folder."""
    write_rows(folder / "train.parquet", 1000)
    model = {"prior": "gtm", "points_per_side": 10, "latent_dim": 16, "hidden": (128,), "likelihood": "gaussian"}
    data = {"source": str(folder / "train.parquet")}
    settings = RunSettings.model_validate({"data": data, "model": model, "training": {"epochs": 1}})
    with new_run(settings, folder / "run") as new:
        train(new.run, new.dataset, new.vae)
    return folder / "run"


def write_rows(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    x = np.random.default_rng(number).normal(size=(number, COLUMNS)).astype(np.float32)
    pd.DataFrame(x, columns=[f"c{i}" for i in range(COLUMNS)]).to_parquet(path)


def job_of(command: str, run: Path, out: Path, rows: int) -> PartsJob:
    options = PASSES[command][0] if command in PASSES else {}
    return PartsJob(command.split()[0], run, "", out, ".parquet", tuple(options.items()), (), rows=rows)


def seconds_of(function: Any, *arguments: Any) -> float:
    """Return processor seconds of this process, which do not depend on other work of the machine."""
    began = time.process_time()
    function(*arguments)
    return time.process_time() - began


def passes(run: Path, folder: Path) -> dict[str, list[dict[str, float]]]:
    """Measure the seconds of parts of several sizes, including reading and writing, in one thread."""
    curves: dict[str, list[dict[str, float]]] = {}
    for command, (_, sizes) in PASSES.items():
        for rows in (10, *sizes):  # ten rows: for the fixed cost, and to load the model
            source = folder / "rows" / f"{rows}.parquet"
            if not source.exists():
                write_rows(source, rows)
            job, part = job_of(command, run, folder / "out", rows), Part(f"{command}-{rows}", source)
            if rows == 10:
                do_part(job, part)
                job = replace(job, rows=10)
            seconds = min(seconds_of(do_part, job, part) for _ in range(3 if rows < 5_000 else 1))
            curves.setdefault(command, []).append({"rows": rows, "seconds": seconds, "rows_a_second": rows / seconds})
            print(command, curves[command][-1], flush=True)
    curves["read"] = []
    for rows in (10_000, 100_000, 1_000_000):
        table = partial(opened(run, "cpu").run.load_table, str(folder / "rows" / f"{rows}.parquet"))
        seconds = seconds_of(table)
        curves["read"].append({"rows": rows, "seconds": seconds, "rows_a_second": rows / seconds})
    model = opened(run, "cpu")
    curves["sample"] = []
    for rows in (10_000, 100_000, 1_000_000):
        seconds = seconds_of(model.jobs.sample, model.model, rows, 0, False)
        curves["sample"].append({"rows": rows, "seconds": seconds, "rows_a_second": rows / seconds})
    return curves


def timed(job: PartsJob, part: Part) -> float:
    """Return the seconds that a worker takes for a part."""
    began = time.perf_counter()
    do_part(job, part)
    return time.perf_counter() - began


def many_parts(run: Path, folder: Path) -> list[dict[str, float]]:
    """Measure the seconds of 1000 small parts in this process and on one and two workers, and of the workers' start."""
    for number in range(SMALL["parts"]):
        write_rows(folder / "shards" / f"part-{number:04}.parquet", SMALL["rows"])
    parts = numbered(parts_of(str(folder / "shards")), [SMALL["rows"]] * SMALL["parts"])
    results = []
    for workers in (None, 1, 2):
        job = job_of("embed", run, folder / f"many-{workers}", SMALL["parts"] * SMALL["rows"])
        began = time.perf_counter()
        with dealing(workers, None) as deal:
            warm = [part for part, _ in deal(partial(timed, job), parts[:4])]  # loads the model in each worker
            started = time.perf_counter()
            seconds = [float(each) for _, each in deal(partial(timed, job), parts[len(warm) :])]  # type: ignore[arg-type]
            ended = time.perf_counter()
            tasks = sum(1 for _ in deal(abs, range(5000)))
            overhead = (time.perf_counter() - ended) / tasks
        results.append(
            {
                "workers": workers or 0,
                "start_seconds": started - began,
                "seconds": ended - started,
                "seconds_a_part": sum(seconds) / len(seconds),  # in the worker, without Dask
                "empty_task_seconds": overhead,
                "load": os.getloadavg()[
                    0
                ],  # processes that wait for a core or use one; above the cores, all are slower
            }
        )
        print(results[-1], flush=True)
    return results


def simulated(
    parts: int, cores: int, part_seconds: float, start_seconds: float, task_seconds: float, part_bytes: float = 0.0
) -> float:
    """Return the simulated seconds until all parts are done: each worker takes the next part when it is free.

    The scheduler hands out one task at a time, and all workers read from one disk, one part after the other.
    """
    free = [start_seconds] * cores
    heapq.heapify(free)
    scheduler = disk = end = 0.0
    for _ in range(parts):
        worker = heapq.heappop(free)
        scheduler = max(scheduler, worker) + task_seconds
        disk = max(disk, scheduler) + part_bytes / DISK_BYTES
        done = max(disk, scheduler + part_seconds)
        heapq.heappush(free, done)
        end = max(end, done)
    return end


def measure() -> dict[str, Any]:
    """Return all curves, and the simulation against the run of 1000 parts."""
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    try:
        run = trained(folder)
        curves, many = passes(run, folder), many_parts(run, folder)
    finally:
        shutil.rmtree(folder)
    return {"passes": curves, "many": many, "checks": checks(many), "costs": costs(curves, many)}


def checks(many: list[dict[str, float]]) -> list[dict[str, float]]:
    """Compare the simulation, with the measured cost of a part in its worker, with the runs on workers."""
    return [
        {
            "workers": each["workers"],
            "measured": each["seconds"],
            "simulated": simulated(
                SMALL["parts"] - 4, int(each["workers"]), each["seconds_a_part"], 0.0, each["empty_task_seconds"]
            ),
        }
        for each in many[1:]
    ]


def costs(curves: dict[str, list[dict[str, float]]], many: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return the hours of 10^9 rows of 100 columns in parts of 10^6 rows, by the number of cores."""
    parts, start = SIMULATED["rows"] // SIMULATED["rows_of_a_part"], many[-1]["start_seconds"]
    task, part_bytes = many[-1]["empty_task_seconds"], 4.0 * COLUMNS * SIMULATED["rows_of_a_part"]
    return {
        command: {
            str(cores): simulated(
                parts, cores, SIMULATED["rows_of_a_part"] / points[-1]["rows_a_second"], start, task, part_bytes
            )
            / 3600
            for cores in SIMULATED["cores"]
        }
        for command, points in curves.items()
    }


if __name__ == "__main__":
    RESULT.write_text(json.dumps(measure(), indent=1) + "\n")
