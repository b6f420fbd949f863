"""The demo: real executions on real input, and a check of every promise by the log they leave."""
