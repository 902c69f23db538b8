"""How encoded rows reach an online store, one file per kind of store; each writer is used inside one Spark task."""
