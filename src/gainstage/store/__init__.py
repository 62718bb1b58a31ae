"""A run's folder: written while it trains, read at any moment. Never imports torch."""
