"""The life of a release: it is loaded, verified, promoted and retired, by one publisher at a time."""
