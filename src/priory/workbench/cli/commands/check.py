"""`priory check`."""

from dataclasses import asdict

import typer

from priory.workbench.cli.requests import allow_modules_here
from priory.workbench.cli.terminal import print_json, say


def check_target(
    target: str, encoder: str | None, reference: str | None, single: str | None, seed: int, as_json: bool
) -> None:
    from priory.testing import check_prior

    allow_modules_here()
    try:
        report = check_prior(target, encoder=encoder, reference=reference, single=single, seed=seed)
    except TypeError as error:  # the user can correct it: the place names an object of the wrong type
        raise ValueError(str(error)) from error
    if as_json:
        print_json({**asdict(report), "passed": report.passed})
    else:
        for line in str(report).splitlines():
            say(line)
    if not report.passed:
        raise typer.Exit(1)
