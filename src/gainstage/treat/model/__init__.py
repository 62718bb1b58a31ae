"""Treatments that change the model: initial values, norms, precision."""
