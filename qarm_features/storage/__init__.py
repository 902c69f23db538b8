"""Storage of what the stages exchange: Delta tables and versioned artifacts."""
