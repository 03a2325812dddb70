"""The collector's memory: intents, outcomes and raw answers, and their way into the store."""
