"""Functions that run commands and write files for them."""

import gzip
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from priory.workbench.cli import main as cli

ROWS, NAMES = 40, ["a", "b", "c", "d"]
QUICK = ("--epochs", 1, "--samples", 2, "--set", "model.hidden=[8]", "--no-report")
MATRIX = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)


def run_cli(*arguments: object) -> int:
    """Run the console script with these arguments; return its exit code."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sys, "argv", ["priory", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0)


def must_be_refused(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: object) -> str:
    """Run a command that must fail and leave every file in the folder unchanged; return the line of its error."""
    before = contents(folder)
    capsys.readouterr()
    assert run_cli(*arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("Error: ")
    assert message.count("\n") == 1, message
    assert message.endswith("\n")
    assert len(message) < 1500
    assert "Traceback" not in message
    assert contents(folder) == before
    return message


def must_succeed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must succeed with an empty stderr; return its output."""
    capsys.readouterr()
    code = run_cli(*arguments)
    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "")
    return captured.out


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return every path under a folder, with the contents of regular files."""
    paths = sorted(folder.rglob("*"))
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


def untimed(file: Path) -> bytes:
    """Return the bytes of a file without the command, the date and the durations at the top of a page."""
    if file.name in ("history.csv", "state.safetensors", "made.json"):
        return b""
    content = file.read_bytes()
    return re.sub(rb'<dl class="facts">.*?</dl>', b"", content, flags=re.DOTALL) if file.suffix == ".html" else content


def write(path: Path, values: np.ndarray, names: list[str] = NAMES) -> Path:
    """Write a matrix in the format of the file name's ending."""
    frame = pd.DataFrame(values, columns=[*names, *(f"e{i}" for i in range(values.shape[1]))][: values.shape[1]])
    ending = path.name.partition(".")[2]
    writers: dict[str, Callable[[], object]] = {
        "csv": lambda: frame.to_csv(path, index=False),
        "csv.gz": lambda: path.write_bytes(gzip.compress(frame.to_csv(index=False).encode())),
        "tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        "npy": lambda: np.save(path, values),
        "npz": lambda: np.savez(path, x=values),
        "parquet": lambda: frame.to_parquet(path),
        "h5ad": lambda: (
            pytest.importorskip("anndata").AnnData(values, var=pd.DataFrame(index=frame.columns)).write_h5ad(path)
        ),
        "idx": lambda: path.write_bytes(idx(values.shape) + values.astype(">f4").tobytes()),
    }
    writers[ending]()
    return path


def idx(shape: tuple[int, ...], kind: int = 0x0D) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def write_h5ad(path: Path, values: np.ndarray, names: list[str]) -> None:
    anndata = pytest.importorskip("anndata")
    anndata.AnnData(values, var=pd.DataFrame(index=names)).write_h5ad(path)
