"""Early stopping, and the choice of the best epoch."""

import math
from dataclasses import dataclass


@dataclass
class Selection:
    """The best validation bound so far and the epochs since then, counted from the end of the warm-up.

    Epochs of the warm-up do not count, because they maximize another bound, with a lower weight of the KL term.

    >>> selection = Selection(patience=2)
    >>> [selection.update(e, bound, warm=e > 0) for e, bound in enumerate([-1.0, -9.0, -8.0, -8.5, -8.0])]
    [False, True, True, False, False]
    >>> selection.best_epoch, selection.stop
    (2, True)
    """

    patience: int | None
    best_epoch: int | None = None
    best_bound: float = -math.inf
    stop: bool = False

    def update(self, epoch: int, bound: float, *, warm: bool) -> bool:
        """Add an epoch's validation bound (NaN if there is no validation), and return whether it is the best so far."""
        if not warm or math.isnan(bound):
            return False
        better = bound > self.best_bound
        if better:
            self.best_epoch, self.best_bound = epoch, bound
        since = epoch - (self.best_epoch if self.best_epoch is not None else epoch)
        self.stop = self.patience is not None and since >= self.patience
        return better
