"""Parquet: which files are a set, which columns hold picture and person."""
