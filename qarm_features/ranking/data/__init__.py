"""The data of a ranking model: training rows as padded tensors, and what is known of items by item index."""
