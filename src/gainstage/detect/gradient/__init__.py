"""Symptoms of gradients and of clipping."""
