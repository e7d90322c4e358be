"""What turns take, as a profile for `voicemesh capacity`; and whether its simulation is like a mesh."""
