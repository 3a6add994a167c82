"""Local training at a silo: epochs of plain mini-batch SGD, and evaluation."""
