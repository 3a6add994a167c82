"""Grids that run the silos of a simulation in this process, without Ray and without a SuperLink."""
