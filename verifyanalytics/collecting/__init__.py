"""Calls are planned, sent once each, and delivered to the store."""
