"""Training rows and all that is known of items become padded tensors."""
