"""Stored bytes: found, opened, decompressed and cut into blocks of responses."""
