"""LiMA's three mechanisms, one file each, and the measure of their quality.

cross_view, propagation (joined by pooling), cross_sequence; quality.
"""
