"""Measurements; each module is a command, and README.md has what they printed."""
