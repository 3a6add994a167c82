"""Studies: an experiment file multiplied out into runs, run several at a time, resumed, summed up and drawn."""
