"""The mathematics on demand: gain, recurrence, curvature, initial scale."""
