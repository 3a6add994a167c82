"""The mathematics of a round in NumPy alone: simplex, projection, scores, filters, standing, partition, seeds."""
