"""The services of the mesh: each its own process. They meet only over gRPC."""
