"""What a catalog of a given size will need: formulas of each stage, and constants that were measured on a named machine."""
