"""The risk report: one week or month of a store as HTML or PDF."""
