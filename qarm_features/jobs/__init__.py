"""One Spark job per file; ``spark_jobs/`` holds a launcher of each for spark-submit, and ``qarm`` runs the same functions."""
