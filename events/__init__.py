"""The contract that other services see: facts, buses. Imports nothing of `execution`."""
