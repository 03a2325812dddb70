"""The fast path: blocks of responses become record batches, equal to the reference parser."""
