"""The contract that other services see: facts, envelopes, buses. Imports nothing of `execution`."""
