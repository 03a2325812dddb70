"""One response becomes one row: the reference parser and what it is made of."""
