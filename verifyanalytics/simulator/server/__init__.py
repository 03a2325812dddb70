"""The vendor's API on loopback, with faults and a billing ledger."""
