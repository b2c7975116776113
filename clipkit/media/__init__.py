"""Files to arrays: finding inputs, opening them kindly, decoding ahead of the model."""
