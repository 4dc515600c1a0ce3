"""Poses: estimated where none were recorded, and how well any of them fit the scans."""

MIN_RANGE_M, MAX_RANGE_M = 2.5, 100.0
"""Nearer points belong to the ego vehicle and move with it; farther ones are too thinly sampled to be a surface."""
