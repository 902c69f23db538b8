"""What `feast apply` sees: entities, a view per published codebook version, the promoted service.

The publishing job applies the same objects; running `feast apply` here changes nothing.
"""

import os
from pathlib import Path

from qarm_features.feature_store import definitions

_config = os.environ.get("QARM_CONFIG") or Path(__file__).resolve().parent.parent / "qarm.yaml"
globals().update({f"{type(found).__name__}_{found.name}": found for found in definitions(_config)})
