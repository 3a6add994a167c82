"""Measurements that are no tests: speed as ratios inside one run, and the choices made on validation data."""
