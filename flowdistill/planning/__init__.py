"""What a step costs before it runs: work, memory, traffic, time."""
