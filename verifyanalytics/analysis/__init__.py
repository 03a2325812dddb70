"""Statistics: one package per question; a frame of verifications in, a frame with counts out."""
