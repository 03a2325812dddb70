"""The vendor's API: signing, credentials, one call, and what its reply means."""
