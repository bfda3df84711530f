"""Rows of (image, label, feature) for trainers, from any dataset."""
