"""The threshold tuner of the notebooks."""
