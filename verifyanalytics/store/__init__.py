"""The store: Delta tables that grow by whole commits and never lose a row."""
