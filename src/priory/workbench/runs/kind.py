"""The kind of a run folder, read from its configuration without importing anything heavy."""

from pathlib import Path

from priory._support.files import read_json
from priory._support.messages import TRAIN_AGAIN

CONFIG = "config.json"
FITTED_BY = {"vae": "priory fit", "gtm": "priory gtm fit"}  # the kinds of runs: what config.json says, what makes them


def kind_of(path: Path, wanted: str = "vae") -> str:
    """The kind of a run folder, a key of `FITTED_BY`; if it is no run, an error names the command for `wanted`."""
    file = path / CONFIG
    if not file.is_file():
        raise ValueError(
            f"{path}: expected a run folder with {CONFIG}, as `{FITTED_BY[wanted]} ... --out RUN` leaves it"
        )
    tree = read_json(file)
    kind = tree.get("kind", "vae") if isinstance(tree, dict) else "vae"
    if kind not in FITTED_BY:
        raise ValueError(f"{file}: kind: expected {' or '.join(FITTED_BY)}, got {kind!r}; {TRAIN_AGAIN}")
    return kind
