"""What a run is made of: lengths, optimisers, averages, checkpoints, logs."""
