"""Kafka: clients, topics as code, and the protocol for effects that happen once."""
