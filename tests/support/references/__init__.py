"""Slow, plain float64 implementations straight from the papers, which the tests hold the real ones against."""
