"""Records in, symptoms out: one file a symptom. NumPy only, no torch."""
