"""A run from settings to verdict: its folder and events, the experiment itself, its processes, its report."""
