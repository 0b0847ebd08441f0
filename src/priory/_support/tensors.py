"""Check that an argument is a tensor."""

from typing import Any

from torch import Tensor


def require_tensor(argument: str, value: Any) -> None:
    """Raise a TypeError that says how to make a tensor of the value, if it is none.

    >>> require_tensor("x", [1.0])
    Traceback (most recent call last):
    TypeError: x: expected a tensor, got list; convert it: torch.as_tensor(x, dtype=torch.float32)
    """
    if isinstance(value, Tensor):
        return
    cure = f"torch.as_tensor({argument}, dtype=torch.float32)"
    if hasattr(value, "batch"):  # `priory.rows.Rows`
        cure = f"{argument}.batch(torch.arange(len({argument})))[0]"
    elif hasattr(value, "to_numpy"):
        cure = f"torch.as_tensor({argument}.to_numpy(), dtype=torch.float32)"
    raise TypeError(f"{argument}: expected a tensor, got {type(value).__name__}; convert it: {cure}")
