"""The algorithms as plain functions.

In: numpy arrays. Out: numpy arrays. No module here imports Spark.
"""
