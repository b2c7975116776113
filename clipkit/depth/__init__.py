"""Depth from words: bins, upsampling, cameras, metrics, and the evaluation protocol."""
