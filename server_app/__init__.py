"""The ServerApp: run configuration in, federated run out."""
