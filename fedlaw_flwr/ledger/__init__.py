"""The ledger of a run: what every silo sent and what became of it, hash-chained, its heads signed and kept by silos."""
