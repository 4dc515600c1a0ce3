"""Rigid motions, cameras and voxels: pure arrays, no files."""
