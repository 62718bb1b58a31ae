"""Symptoms of levels: gain over depth and time, headroom, forecasts."""
