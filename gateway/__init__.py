"""The gateway: the edge of the mesh and the engine of its turns."""
