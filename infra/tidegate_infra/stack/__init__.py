"""The local stack: real Kafka, the embedded store and every process on one machine, without containers."""
