"""The engines: code that runs a speech model, each in a worker process of its own."""
