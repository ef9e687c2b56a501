"""What all tests share."""

import torch

torch.set_num_threads(1)  # the tensors here are small: threads would only wait for one another
