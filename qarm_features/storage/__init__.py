"""Delta tables and versioned artifacts, the two places in which stages meet."""
