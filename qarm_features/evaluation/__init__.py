"""Measures of encoders and of codes: co-clicks, neighborhoods, balance."""
