"""A conformance kit: drives any Flower ClientApp and says where it departs from docs/reference/protocol.md."""

from fedlaw_flwr.config.findings import Finding
from fedlaw_flwr.conformance.examine import CHECKS, ClientCheck, examine
from fedlaw_flwr.conformance.probe import Probe, Terms

__all__ = ["CHECKS", "ClientCheck", "Finding", "Probe", "Terms", "examine"]
