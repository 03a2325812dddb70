"""Answers, stores and frames that tests are made of."""
