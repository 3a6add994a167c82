"""A Flower app as its quickstart shapes one, on scikit-learn's digits: nothing in it knows of FedLAW but after.py."""
