"""The identity of a run: a run resumes only from a state with the same identity."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from priory.rows import Rows
from priory.training.settings import TrainingSettings


def identity_of(
    settings: TrainingSettings,
    seed: int | None,
    train: Rows,
    valid: Rows | None,
    own: Mapping[str, str | None],
) -> dict[str, Any]:
    """Return the settings, the seed and the numbers of rows of a run, and the user's own objective and optimizer."""
    rows = {"train": len(train), "valid": None if valid is None else len(valid)}
    return {"settings": settings.model_dump(), "seed": seed, "rows": rows, **own}


def check_same_run(old: Mapping[str, Any], new: dict[str, Any], path: Path | None) -> None:
    """Raise an error if the identity of a run has changed; a seed of None becomes the old seed."""
    if new["seed"] is None:
        new["seed"] = old["seed"]
    was, now = ({**run["settings"], "seed": run["seed"]} for run in (old, new))
    for fields, run in ((was, old), (now, new)):
        fields.update({f"number of {name} rows": number for name, number in run["rows"].items()})
        fields.update({f"your {name}": run[name] for name in ("objective", "optimizer")})
    for name in ("accelerator", "devices", "strategy", "shard_components"):  # only the number of processes matters
        was.pop(name, None)
        del now[name]
    if now["epochs"] > was["epochs"] and TrainingSettings(**new["settings"]).independent_of_epochs():
        was["epochs"] = now["epochs"]
    different = [f"{name} (was {was[name]!r}, is {now[name]!r})" for name in now if was.get(name) != now[name]]
    if different:
        hint = ""
        if was["epochs"] != now["epochs"]:
            hint = (
                "; epochs can be raised only if the schedule is constant, the warm-up is a number of steps, and images "
                "are not shifted"
            )
        raise ValueError(f"resume: {path} belongs to a run with other settings: {', '.join(different)}{hint}")


def check_same_processes(old: Mapping[str, Any], new: Mapping[str, Any], path: Path) -> None:
    """Raise an error if the number of processes has changed, because the steps would change too."""
    was, now = old.get("processes", 1), new["processes"]
    if was != now:
        raise ValueError(
            f"resume: {path} belongs to a run of {was} process(es), but devices and strategy start {now} here; "
            "expected the same number, because each process takes batch_size rows per step"
        )
