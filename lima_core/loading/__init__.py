"""From frames on disk to batches: subsets, augmentation, voxels, collation."""
