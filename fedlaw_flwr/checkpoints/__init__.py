"""The checkpoints of a run, written after every round, and how a run goes on from one after its server died."""
