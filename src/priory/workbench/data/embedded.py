"""Names of the data sets in installed packages, and checks of paths to other data."""

import os
from contextlib import suppress
from pathlib import Path

from priory._support.messages import nearest, shortened

EMBEDDED = ("digits",)  # of scikit-learn
_ZARR = ("zarr.json", ".zgroup", ".zarray")  # files that identify a zarr folder, in formats 3 and 2


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a zarr store."""
    return any((path / name).is_file() for name in _ZARR)


def existing_file(path: Path) -> Path:
    """Return the path if it is a readable file, a zarr folder or a folder of .parquet files.

    Raises:
        FileNotFoundError: it does not exist; the message suggests the nearest name.
        PermissionError: it may not be read.
        ValueError: it is not a regular file, or a folder without .parquet files.
    """
    if path.is_file():
        if os.access(path, os.R_OK):
            return path
        raise PermissionError(f"source: expected a file that you may read, got {str(path)!r}; change its permissions")
    if path.is_dir():
        if is_zarr(path) or any(path.rglob("*.parquet")):
            return path
        raise ValueError(
            f"source: expected a file, got the folder {str(path)!r}, which has no .parquet files; name a file in it"
        )
    if path.exists():
        raise ValueError(f"source: expected a regular file, got the pipe or device {str(path)!r}; save the data first")
    shown = shortened(str(path), 300)
    files: list[str] = []
    with suppress(OSError):
        files = sorted(name for name in os.listdir(path.parent) if (path.parent / name).is_file())
    neighbors = {name.partition(".")[0]: name for name in files}
    here = not path.suffix and path.parent.resolve() == Path.cwd()
    close = nearest(path.name, EMBEDDED) if here else None
    close = close or neighbors.get(nearest(path.name.partition(".")[0], neighbors) or "")
    hint = f"did you mean {close!r}?" if close else "check the spelling and the folder"
    raise FileNotFoundError(
        f"source: expected an embedded data set ({', '.join(EMBEDDED)}) or an existing file, got {shown!r}; {hint}"
    )
