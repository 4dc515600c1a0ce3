"""The only training loop, and what it needs: optimisers and schedules, resume state, weights on disk, logs."""
