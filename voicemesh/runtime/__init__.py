"""What every process of the mesh shares. Import its modules, not this package."""
