"""Symptoms, faults, profiles and what the script does in; one ranked diagnosis out. No torch."""
