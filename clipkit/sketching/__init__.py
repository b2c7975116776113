"""Sketches from strokes: rasterisers, saliency, losses, optimisation, export."""
