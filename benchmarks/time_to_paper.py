"""Measure how many minutes our training needs to reach the NLL of the papers.

    python benchmarks/time_to_paper.py --data-dir DIR [--only WORD ...]

The models and the training are those of `tables.py`, with fewer steps. For each number of the papers, the training has
2000 steps, then 4000, 8000 and 16 000, each from the start, until the NLL of all test images is not above the paper's
number. NLL is estimated with 500 importance samples, which makes it higher than with the 5000 of the papers. Minutes
are processor time of one core. Test rows choose nothing but when to stop the search.

Finished trainings are not run again. Results go to `benchmarks/results/time_to_paper.json` and `.md`.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import torch

from _results import RESULTS, read_results, write_results
from _tables_page import LABELS, NOROUZI, TITLES, TOMCZAK, minutes
from tables import OURS, Cell, result_of

STEPS = (2000, 4000, 8000, 16_000)
NUM_SAMPLES = 500
HEAD = f"""# Minutes to the papers' numbers

The shortest of our trainings with 2000, 4000, 8000 or 16 000 steps that reaches the paper's NLL; a full training of
[the tables](tables.md) has 30 000 steps. NLL is that of all test rows, with {NUM_SAMPLES} importance samples. Minutes
are those of one core, in float32 unless bf16 stands beside them. `python benchmarks/time_to_paper.py --data-dir DIR`
makes this page.

| data | model | paper | steps | NLL | minutes | reached |
|---|---|---|---|---|---|---|"""


def papers() -> dict[tuple[str, int, str], float]:
    """Return the number to reach for each (data, levels, prior): that of Tomczak & Welling, if they have one."""
    sources = (NOROUZI, TOMCZAK)
    return {(*place, prior): nll for source in sources for place, row in source.items() for prior, nll in row.items()}


def page(done: list[dict[str, Any]]) -> str:
    """Return the results in Markdown: of each model, the last training."""
    lines = [HEAD]
    for (data, levels, prior), wanted in papers().items():
        rows = [row for row in done if (row["data"], row["levels"], row["prior"]) == (data, levels, prior)]
        if rows:
            last = max(rows, key=lambda row: row["steps"])
            model = "two levels, " * (levels == 2) + LABELS[prior]
            numbers = f"{wanted:.2f} | {last['steps']} | {last['nll']:.2f} | {minutes([last])}"
            lines.append(f"| {TITLES[data]} | {model} | {numbers} | {'yes' if last['nll'] <= wanted else 'no'} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("PRIORY_DATA"))
    parser.add_argument("--only", nargs="+", default=(), help="words that the name of a model must have")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the folder for the state of trainings")
    parser.add_argument("--out", type=Path, default=RESULTS / "time_to_paper.json")
    parser.add_argument("--precision", choices=("bf16-mixed", "32-true"), default=OURS["precision"])
    arguments = parser.parse_args()
    if arguments.data_dir is None:
        parser.error("--data-dir: expected the folder of the data sets, or set PRIORY_DATA")
    torch.set_num_threads(1)
    for (data, levels, prior), wanted in papers().items():
        if not set(arguments.only) <= {data, str(levels), prior}:
            continue
        for steps in STEPS:
            key = {"data": data, "levels": levels, "prior": prior, "steps": steps}
            row = next((row for row in read_results(arguments.out, []) if key.items() <= row.items()), None)
            if row is None:
                cell = Cell(data, levels, prior, "ours")
                out = arguments.runs / f"{cell}-{steps}"
                row = key | result_of(cell, Path(arguments.data_dir), out, arguments.precision, steps, NUM_SAMPLES)
                done = [*read_results(arguments.out, []), row]
                write_results(arguments.out, done, page(done))
                print(f"{cell}: {steps} steps, NLL {row['nll']:.2f}, {row['minutes']:.1f} minutes", flush=True)
            if row["nll"] <= wanted:
                break


if __name__ == "__main__":
    main()
