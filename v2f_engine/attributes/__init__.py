"""Attribute control: targets, estimators and the bounded, per-sample steering loop."""
