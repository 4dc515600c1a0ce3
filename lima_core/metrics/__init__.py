"""Scores: ``segmentation`` (IoU per point, and the official nuScenes evaluator)."""
