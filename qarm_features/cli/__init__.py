"""The command line ``qarm``."""
