"""Symptoms of the loss."""
