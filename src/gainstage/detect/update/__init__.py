"""Symptoms of weights and of what the optimizer writes."""
