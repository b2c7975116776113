"""Sound beside text and pictures: the built-in audio tower, AudioCLIP and CLAP behind one interface."""
