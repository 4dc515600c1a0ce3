"""Everything that knows about LiDAR, cameras and distillation; knows nothing about stages or the command line."""
