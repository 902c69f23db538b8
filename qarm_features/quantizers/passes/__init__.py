"""Passes over all rows of a DataFrame.

In: Spark partitions. Out: small results, by the functions of ``arrays``.
"""
