"""Who is let in: how many turns the mesh can take, whose they are, what is given up before any is refused."""
