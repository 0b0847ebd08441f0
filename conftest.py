"""For all tests and doctests: one thread each, and `torch` at hand in the doctests."""

import pytest
import torch

# Two cores are all there is, and small tensors gain nothing from a second thread.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _torch_in_doctests(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace["torch"] = torch
