"""One Spark job per module. ``spark_jobs/`` has a launcher of each for spark-submit, and ``qarm`` runs the same functions."""
