"""ClickHouse, a server or the embedded store alike: clients and migrations."""
