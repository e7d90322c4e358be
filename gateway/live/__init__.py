"""The live page: turns as they happen, in a browser, read-only."""
