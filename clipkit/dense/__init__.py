"""Patch-level CLIP: last-block variants, windows, refinement."""
