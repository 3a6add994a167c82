"""A conformance kit: drives any Flower ClientApp and says where it departs from docs/protocol.md."""

from fedlaw_flwr.conformance.examine import CHECKS, Check, examine
from fedlaw_flwr.conformance.probe import Probe, Terms
from fedlaw_flwr.findings import Finding

__all__ = ["CHECKS", "Check", "Finding", "Probe", "Terms", "examine"]
