"""Public data sets and unknown files become a catalog and a click log, without Spark and in bounded memory."""
