"""What a symptom kind is, what its detectors are fed with, and how."""
