"""Quality measures of encoders and codes: co-clicks, neighborhoods, errors, balance."""
