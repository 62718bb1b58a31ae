"""Nodes of an autograd graph: walking them, what they saved, letting them go."""
