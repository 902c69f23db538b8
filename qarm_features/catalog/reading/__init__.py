"""Files and tables of the user become rows, each with its place."""
