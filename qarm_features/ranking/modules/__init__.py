"""Modules that stand alone in any torch ranking model."""
