"""The rules, without I/O, clock or randomness: states, commands, events, decide, evolve, outcome."""
