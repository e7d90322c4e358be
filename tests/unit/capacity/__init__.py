"""Unit tests of the capacity planner and its simulation."""
