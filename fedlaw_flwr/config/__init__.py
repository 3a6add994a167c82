"""The settings of a run, and the files people write: how they are read, checked and explained."""
