"""The logic of the LLM service. Import its modules, not this package."""
