"""What changed, since when, how sure: the past of each series beside its present."""
