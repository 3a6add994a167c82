"""A real silo: the fixed ClientApp that Flower ships to it, and the institution's own process that does the work."""
