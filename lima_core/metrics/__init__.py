"""Scores: ``segmentation`` (IoU per point, and the official nuScenes evaluator); ``paired`` (two sets by seed)."""
