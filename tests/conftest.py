"""One thread for every test: two cores are all there is, and small tensors gain nothing from a second."""

import torch

torch.set_num_threads(1)
