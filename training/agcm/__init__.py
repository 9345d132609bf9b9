"""The Attention-Guided Concept Model in torch: backbone, concept generators, linear heads, losses."""
