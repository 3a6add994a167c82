"""What happened in a run: its folder, its events and the verdict they add up to."""
