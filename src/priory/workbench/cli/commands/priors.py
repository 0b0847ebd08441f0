"""`priory priors`."""

from priory.priors import HierarchicalPrior
from priory.workbench.cli.terminal import Part, say_table
from priory.workbench.models.building import class_of_prior
from priory.workbench.settings.priors import PRIORS


def list_priors() -> None:
    rows: list[tuple[Part, ...]] = []
    for name in PRIORS:
        try:
            prior = class_of_prior(name)
        except ValueError as error:  # of a prior from another package
            rows.append((name, (str(error), "dim"), ""))
        else:
            rows.append((name, prior.summary, prior.reference))
    rows.append(("--levels 2", HierarchicalPrior.summary, HierarchicalPrior.reference))
    say_table("", ("name", "p(z)", "source"), rows)
