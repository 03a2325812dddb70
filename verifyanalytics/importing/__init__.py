"""Stored responses and labels are imported: planned, flattened by workers, committed."""
