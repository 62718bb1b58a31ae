"""Treatments that change what the optimizer does."""
