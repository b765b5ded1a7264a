"""The one word that stage 1 and the fold share about a specification that was withdrawn."""

DELETE = "delete"
"""Action made of a tombstone: it ends the rollout, whatever its generation, and nobody can send it."""
