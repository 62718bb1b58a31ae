"""Generated training runs with truth by construction: `python -m benchmarks.corpus`."""
