"""The study's other systems: concept models, plain classifiers and map explanations on the backbone of AGCM."""
