"""Tidegate: release control for LLM applications. The contract, and the client that speaks it."""
