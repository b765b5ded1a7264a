"""Settings, Kafka and ClickHouse clients, migrations, health, the embedded store and the local stack."""
