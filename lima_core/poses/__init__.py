"""Poses: estimated where none were recorded, and how well any of them fit the scans."""

MIN_RANGE_M = 2.5
"""Nearer points belong to the ego vehicle and move with it: they say nothing about its motion."""
