"""The Feast objects that ``feast apply`` finds: entities, a view per published codebook version, the promoted service.

The publishing job applies the same objects, so that ``feast apply`` in this folder changes nothing. The variable
``QARM_CONFIG`` may name the project's ``qarm.yaml``; by default it stands beside this folder.
"""

import os
from pathlib import Path

from qarm_features.feature_store import definitions

_config = os.environ.get("QARM_CONFIG") or Path(__file__).resolve().parent.parent / "qarm.yaml"
globals().update(
    {f"{type(feast_object).__name__}_{feast_object.name}": feast_object for feast_object in definitions(_config)}
)
