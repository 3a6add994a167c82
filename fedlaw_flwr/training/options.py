"""The settings of local training at an honest silo: each defined here, once."""

from dataclasses import dataclass

from fedlaw_flwr.core.setting import setting

REVIEW_BY = ("balanced-gradient", "gradient", "update")
"""What a review is made of."""

LOSS_AT = ("trained", "received")
"""Where f_i is taken: at psi_i after training (Algorithm 1 of the paper), or at the broadcast point (its eq. 151)."""


DEVICES = ("auto", "cpu", "cuda")
"""The names of places where tensors can live."""


def _device(value: str) -> str:
    if value == "cuda":
        from fedlaw_flwr.tasks.device import device

        device(value)
    return value


@dataclass(kw_only=True)
class TrainingOptions:
    """The honest silo"""

    lr: float = setting(0.1, "alpha, the step of plain SGD", above=0)
    local_epochs: int = setting(3, "E, passes over the silo's examples in an exchange", least=1, unit="epochs")
    batch_size: int = setting(16, "B, examples in a mini-batch", least=1, unit="examples")
    loss_at: str = setting(
        "received", "where f_i is taken: at the model received, or at the model after training", choices=LOSS_AT
    )
    review_by: str = setting(
        "balanced-gradient",
        "with variant review, what a simulated silo's review is: the gradient of its class-balanced loss; for "
        "ablations that of its mean loss, or its trained update",
        choices=REVIEW_BY,
    )
    device: str = setting(
        "cpu", "where silos train; auto: cuda where there is one", choices=("auto", "cpu", "cuda"), check=_device
    )
