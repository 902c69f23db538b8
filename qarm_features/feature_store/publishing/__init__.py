"""A release is loaded, verified, promoted and retired, by one publisher at a time."""
