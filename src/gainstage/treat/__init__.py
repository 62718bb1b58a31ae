"""Treatments: what can be done to a run from outside, each recorded with what it did."""
