"""What all tests share: one torch thread, so that sums do not depend on the machine and two cores do not fight."""

import torch

torch.set_num_threads(1)
