"""What all tests share: one torch thread, so that sums do not depend on the machine and two cores do not fight.

Hypothesis draws the same examples in every run, and no example fails because the machine was slow.
"""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("here", derandomize=True, deadline=None)
settings.load_profile("here")
