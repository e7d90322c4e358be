"""Mixed load and random faults for as long as one likes, with invariants checked all along."""
