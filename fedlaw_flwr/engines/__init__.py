"""Grids inside this process: silo after silo, or all silos as one batch."""
