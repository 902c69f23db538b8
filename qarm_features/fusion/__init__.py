"""Fuse the tokens of all modalities; encoders and ranking models share ``Tokens`` and the Fusion-Q-Former."""
