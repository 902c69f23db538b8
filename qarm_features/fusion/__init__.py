"""Tokens of all modalities and the Fusion-Q-Former; encoders and ranking models both speak this."""
