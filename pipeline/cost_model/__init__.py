"""What a run will take: from artifacts that are there, from a calibration, or from the stages' rules of thumb."""
