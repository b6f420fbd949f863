"""A real Kafka broker of this machine's own, without containers: Java, Maven, and a folder are all it takes."""
