"""The reference ranking model: its configuration, its parts, and its variants by name."""
