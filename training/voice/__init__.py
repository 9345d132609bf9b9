"""Voice concepts: what is heard, from 16 kHz mono sound to numbers with units."""
