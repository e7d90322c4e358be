"""Real-time speech from language models over a mesh of gRPC services."""
