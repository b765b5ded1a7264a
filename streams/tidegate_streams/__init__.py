"""Topics in, topics out: aggregation, windows, drift, rollouts and alerts."""
