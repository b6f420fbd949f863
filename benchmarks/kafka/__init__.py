"""The relay beside a bare Kafka client: how fast it publishes, how late, and what it costs the executions."""
