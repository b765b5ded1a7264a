"""Kafka to ClickHouse: every message of every fact topic becomes its rows, once."""
