"""Figures, side by side with named peers."""
