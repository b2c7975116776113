"""Video understanding on CLIP: which frames to look at, how to pool them over time, and an index of what was seen."""
