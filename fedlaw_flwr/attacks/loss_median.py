"""Loss forging, median: a poisoned update (flipped labels) and a loss just under the usual, which no filter sees."""

import numpy as np

from fedlaw_flwr.attacks.base import Attack, Forgery, Situation
from fedlaw_flwr.attacks.label_flipping import poison

# A thousandth less: better than half of the honest, and far inside any fence around their median.
_JUST_UNDER = 1 - 1e-3


def forge(situation: Situation) -> Forgery:
    """The update of training on flipped labels, and 0.999 times the median of the coalition's honest losses."""
    return Forgery(situation.update, _JUST_UNDER * float(np.median(situation.coalition().losses)))


ATTACK = Attack(
    "loss_median",
    "label_flipping with a loss just under the colluders' honest median",
    "this project; FedLAW, Appendix C",
    poison,
    forge,
)
