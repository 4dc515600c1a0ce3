"""LiMA's three mechanisms, one file each, and the measure of their quality: cross_view, propagation (with pooling),
cross_sequence, quality."""
