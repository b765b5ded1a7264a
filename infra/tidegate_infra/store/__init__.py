"""The embedded store: a process that owns an engine directory and speaks ClickHouse's own HTTP interface."""
