"""Telemetry tells operators what each stage did: as JSON lines, and to the systems that they already watch."""
