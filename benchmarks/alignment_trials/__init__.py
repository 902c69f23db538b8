"""What was tried beside the losses of the package, for the benchmark ``alignment_2x2``."""
