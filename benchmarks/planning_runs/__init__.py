"""What the benchmarks of ``qarm plan`` share: a synthetic project of a given size, and its jobs with what they took."""
