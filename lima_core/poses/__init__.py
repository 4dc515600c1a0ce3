"""Poses: estimated where none were recorded, and how well any of them fit the scans."""
