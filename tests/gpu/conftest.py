"""Kernels that wait for a card to decide are tested on it as those that ship."""

from bench.candidates import enlist

enlist()
