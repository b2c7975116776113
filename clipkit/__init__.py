"""clipkit: answers about pictures, video and sound with CLIP, without training anything."""

__version__ = "0.1.0"
