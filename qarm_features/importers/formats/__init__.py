"""One file per format that ``qarm import`` knows, and the list of them."""

from __future__ import annotations

from qarm_features.importers.formats import amazon, criteo, mind, movielens, recbole, steam, yelp
from qarm_features.importers.plan import Format

FORMATS: dict[str, Format] = {
    one.FORMAT.name: one.FORMAT for one in (movielens, amazon, mind, yelp, steam, criteo, recbole)
}
