"""How many replicas a load needs: measured profiles, a simulation of the mesh, and the search for the fewest.

Standard library only. Nothing here knows a figure: what a turn takes is read from a profile, which
`benchmarks/capacity.py` records from a mesh that runs.
"""
