"""Certified bounds on the outputs of neural networks."""
