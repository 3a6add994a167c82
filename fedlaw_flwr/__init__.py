"""FedLAW for Flower: Byzantine-robust federated learning with learnable aggregation weights."""

__version__ = "0.1.0"
