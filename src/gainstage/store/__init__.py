"""A run's folder: written while the run is going on, read at any moment. Never imports torch."""
