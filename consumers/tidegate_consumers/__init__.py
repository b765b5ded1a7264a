"""Topics in, the world out: ClickHouse, webhooks, deployers."""
