"""One module per question: a frame of verifications in, a small frame with counts out."""
