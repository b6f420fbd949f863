"""What only developers measure: how the service grows. `python -m benchmarks`, or `make bench`."""
