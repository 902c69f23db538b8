"""The reference ranking model: its configuration, its parts, and the variants that are compared."""
