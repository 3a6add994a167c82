"""What a stranger needs to judge figures: the processor, its cores, the threads used, and the versions of libraries."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

NAMES = {
    "numpy": "NumPy",
    "torch": "PyTorch",
    "byzfl": "ByzFL",
    "flwr": "Flower",
    "ray": "Ray",
    "scikit-learn": "scikit-learn",
}


def described(packages: tuple[str, ...], threads: str = "one thread used") -> dict[str, str]:
    """The machine and the versions, as the tables of docs/performance.md have them.

    Args:
        packages: The installed packages whose versions matter, keys of `NAMES`.
        threads: What is said of threads and of other work on the machine. Default: one thread.
    """
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return {
        "processor": f"{model}, {os.cpu_count()} cores, {threads}",
        "versions": ", ".join(
            [f"Python {platform.python_version()}", *(f"{NAMES[package]} {version(package)}" for package in packages)]
        ),
    }


def busy() -> str:
    """How much other work there was in the last minute, for a wall clock's figures."""
    return f"load average {os.getloadavg()[0]:.1f} at the end"
