"""Checks of output paths: an output never replaces input data, files of a run, or files that the user did not name."""

import os
from collections.abc import Iterable
from pathlib import Path

from priory.training.history import HISTORY_FILE
from priory.workbench.runs.config import CONFIG
from priory.workbench.runs.folder import COMPARISON, COMPARISON_TABLE, FIGURES, ROW_SCORES, SPLITS

_TABLES = (
    SPLITS,
    HISTORY_FILE,
    ROW_SCORES,
    COMPARISON_TABLE,
)  # files of a run or a comparison with the endings of outputs


def check_place(path: Path, option: str, reads: Iterable[str | Path], *, may_replace: bool = True) -> None:
    """Refuse an output that would replace a file that must stay.

    Args:
        path: the output.
        option: the option that names it.
        reads: the data of the run, and the files that the command reads.
        may_replace: whether it may replace another existing file, because the user named it.

    Raises:
        ValueError: it may not be written.
    """
    if any(_same_file(path, Path(read)) for read in reads):
        raise ValueError(f"{option}: expected another file than the data, got {str(path)!r}; name a new file")
    if (folder := _owner(path)) is not None:
        raise ValueError(
            f"{option}: expected another file than those of a run, got {str(path)!r}, which belongs to {folder}; name "
            "a file in another folder"
        )
    if path.exists() and not may_replace:
        raise ValueError(
            f"{option}: {str(path)!r} exists, and is replaced only if you name it; give {option} {path} to replace it, "
            "or another name"
        )


def _same_file(one: Path, other: Path) -> bool:
    """Return whether both are the same file, also by links, or `one` is a .parquet file in the folder `other`."""
    if other.is_dir():
        return one.suffix == ".parquet" and other.resolve() in one.resolve().parents
    if one.exists() and other.exists():
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def _owner(path: Path) -> Path | None:
    """Return the folder of the run or comparison that owns the file, directly or by a link; else None."""
    for place in (path.parent.resolve() / path.name, path.resolve()):
        inside = place.parent.name == FIGURES
        folder = place.parent.parent if inside else place.parent
        is_one = (folder / CONFIG).is_file() or (folder / COMPARISON).is_file()
        if is_one and (inside or place.name in _TABLES):
            return folder
    return None


def require_apart(out: Path, source: str) -> None:
    """Refuse a folder for a new run that contains the data, because files of the run may have the same names."""
    if Path(source).is_file() and out.resolve() in Path(source).resolve().parents:
        raise ValueError(f"--out {out}: expected another folder than the one of the data, {source}; name another")
