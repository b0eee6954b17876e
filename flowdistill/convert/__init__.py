"""Weights of other systems: their names and layouts, read and written."""
