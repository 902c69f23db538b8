"""One pass over all rows at a time: how Spark partitions reach the functions of ``arrays``."""
