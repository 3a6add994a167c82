"""FedLAW for Flower: Byzantine-robust federated learning with learnable aggregation weights.

    from fedlaw_flwr import FedLAW

Every name below is imported when it is first used: `import fedlaw_flwr` alone imports nothing, and no name here imports
torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedlaw_flwr.attacks import ATTACKS
    from fedlaw_flwr.config.settings import Settings
    from fedlaw_flwr.learners import LEARNERS
    from fedlaw_flwr.reporting.tables import load_run
    from fedlaw_flwr.rules import RULES, Aggregator, RuleSettings
    from fedlaw_flwr.strategy import FedLAW, RuleStrategy
    from fedlaw_flwr.tasks import TASKS

    __version__: str

__all__ = [
    "ATTACKS",
    "LEARNERS",
    "RULES",
    "TASKS",
    "Aggregator",
    "FedLAW",
    "RuleSettings",
    "RuleStrategy",
    "Settings",
    "__version__",
    "load_run",
]

_WHERE = {
    "ATTACKS": "attacks",
    "Aggregator": "rules",
    "FedLAW": "strategy",
    "LEARNERS": "learners",
    "RULES": "rules",
    "RuleSettings": "rules",
    "RuleStrategy": "strategy",
    "Settings": "config.settings",
    "TASKS": "tasks",
    "load_run": "reporting.tables",
}


def __getattr__(name: str) -> Any:
    """The public name, imported on first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("fedlaw-flwr")
    elif name in _WHERE:
        value = getattr(import_module(f"fedlaw_flwr.{_WHERE[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
