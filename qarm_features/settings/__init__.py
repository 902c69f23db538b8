"""Settings of a project, read from ``qarm.yaml``, ``QARM_*`` variables and flags."""

from qarm_features.settings.load import Settings, load_settings

__all__ = ["Settings", "load_settings"]
