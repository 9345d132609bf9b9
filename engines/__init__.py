"""Named arrays in, named arrays out: compiled networks, the face path, and the readout of concepts."""
