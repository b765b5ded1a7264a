"""The client: events from an app's threads to Kafka. Applications use the names in `tidegate`."""
