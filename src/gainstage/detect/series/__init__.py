"""Running statistics that detectors share: history, trend, chunks."""
