"""Deletion of the keys that left a view: users who left the click log, items that left a table.

In: the keys that a view holds now, and those that were published before. Out: the others are deleted from the online store by
Spark's tasks, and read back to be absent. Keys that no record names, for example of a version of this package that kept none,
are found in the store itself.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from feast import FeatureStore, FeatureView, ValueType
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from qarm_features.feature_store.bulk_write.delete_rows import DeleterTarget, delete_rows, deleter_target, encode_keys
from qarm_features.feature_store.publishing.online_counts import online_keys
from qarm_features.feature_store.publishing.published_keys import (
    add_published_keys,
    gone_keys,
    published_keys,
    replace_published_keys,
)
from qarm_features.feature_store.publishing.release_checks import check_absent
from qarm_features.feature_store.publishing.view_loads import ViewLoad
from qarm_features.settings.load import Settings
from qarm_features.storage.warehouse import Warehouse

_STRAYS_PER_QUERY = 200_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GoneRows:
    """The rows that must leave the online store with a publication.

    Attributes:
        spark: Session whose tasks delete.
        settings: Settings of the project.
        store: Feature store.
    """

    spark: SparkSession
    settings: Settings
    store: FeatureStore

    def expect(self, load: ViewLoad) -> None:
        """Record the keys that are about to be loaded, so that a later publication knows them even after a crash."""
        add_published_keys(self._warehouse, load.view.name, load.keys)

    def can_be_deleted(self, view: FeatureView) -> bool:
        """Tell if the online store deletes rows of single keys."""
        return self._target(view) is not None

    def count(self, load: ViewLoad, *, is_loaded: bool) -> int:
        """Count the keys that left, without a change.

        Args:
            load: Rows of the view.
            is_loaded: True if the store may hold rows of the view that no record names.
        """
        if not is_loaded or not published_keys(self._warehouse, load.view.name).isEmpty():
            return gone_keys(self._warehouse, load.view.name, load.keys).count()
        return sum(strays.count() for strays in self._strays(load))

    def delete(self, load: ViewLoad) -> int:
        """Delete the recorded keys that left, and read some of them back to be absent.

        Returns:
            Number of keys that left. They are still served if the store deletes no single rows.

        Raises:
            ReleaseError: A deleted key is still served.
        """
        view, target = load.view, self._target(load.view)
        gone = gone_keys(self._warehouse, view.name, load.keys).persist()
        count = gone.count()
        if count and target is not None:
            self._delete_keys(view, gone, target)
            _log.info("%s: %s keys that left were deleted online", view.name, f"{count:,}")
        gone.unpersist()
        return count

    def delete_keys(self, view: FeatureView, keys: DataFrame) -> bool:
        """Delete given keys (column ``key``, as text) of a view, and read some of them back to be absent.

        Returns:
            False if the store deletes no single rows, so that they are still served.

        Raises:
            ReleaseError: A deleted key is still served.
        """
        target = self._target(view)
        if target is not None:
            self._delete_keys(view, keys, target)
        return target is not None

    def delete_strays(self, load: ViewLoad) -> int:
        """Delete the rows of the store whose keys the view does not hold now, recorded or not, and return their number."""
        target = self._target(load.view)
        if target is None:
            return 0
        deleted = sum(_run(strays, target) for strays in self._strays(load))
        if deleted:
            _log.info("%s: %s keys of unknown origin were deleted online", load.view.name, f"{deleted:,}")
        return deleted

    def forget(self, load: ViewLoad) -> None:
        """Record that the view holds the loaded keys alone."""
        replace_published_keys(self._warehouse, load.view.name, load.keys)

    @property
    def _warehouse(self) -> Warehouse:
        return Warehouse(self.settings.warehouse_path, **self.settings.id_types, spark=self.spark)

    def _delete_keys(self, view: FeatureView, keys: DataFrame, target: DeleterTarget) -> None:
        sample = [row.key for row in keys.limit(self.settings.publishing.verify_items).collect()]
        _run(_encoded(keys, self.store, view), target)
        check_absent(self.store, view, [int(key) if _is_integer(view) else key for key in sample])

    def _target(self, view: FeatureView) -> DeleterTarget | None:
        return deleter_target(self.store.config, view)

    def _strays(self, load: ViewLoad) -> Iterator[DataFrame]:
        """Yield the serialized keys in the store that the view does not hold now, some at a time."""
        held = _encoded(load.keys, self.store, load.view).persist()
        pages = online_keys(self.store.config, load.view, self.settings.publishing.keys_per_second)
        keys = itertools.chain.from_iterable(pages)
        while some := [(key,) for key in itertools.islice(keys, _STRAYS_PER_QUERY)]:
            found = self.spark.createDataFrame(some, "entity_key binary").distinct()
            yield found.join(held, on="entity_key", how="left_anti")
        held.unpersist()


def _is_integer(view: FeatureView) -> bool:
    return view.entity_columns[0].dtype.to_value_type() == ValueType.INT64


def _encoded(keys: DataFrame, store: FeatureStore, view: FeatureView) -> DataFrame:
    """Return keys as the online store has them (column ``entity_key``)."""
    encode = functools.partial(
        encode_keys,
        name=view.entity_columns[0].name,
        value_type=view.entity_columns[0].dtype.to_value_type().name,
        version=store.config.entity_key_serialization_version,
    )
    typed = keys.select(F.col("key").cast("bigint" if _is_integer(view) else "string"))
    return typed.mapInArrow(encode, "entity_key binary")


def _run(keys: DataFrame, target: DeleterTarget) -> int:
    """Delete the rows of serialized keys from Spark's tasks and return the number of keys that had rows."""
    deleted = keys.mapInArrow(functools.partial(delete_rows, target=target), "rows long")
    return deleted.agg(F.coalesce(F.sum("rows"), F.lit(0))).collect()[0][0]
