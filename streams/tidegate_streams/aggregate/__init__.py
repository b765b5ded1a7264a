"""Stage 1: every event in columns, shrunk to mergeable partials on the journal."""
