"""A live panel in the last rows of the terminal, while the script prints above it.

The terminal itself keeps the two apart, by a scroll region (DECSTBM), as apt's progress bar does:
the script's streams are neither wrapped nor read, and its output goes where it always went.
"""

from __future__ import annotations

ROWS = 6
LEAST_HEIGHT = 12
