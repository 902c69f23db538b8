"""One Spark job per file, each runnable by spark-submit; the command line runs the same functions."""
