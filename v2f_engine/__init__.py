"""v2f_engine: face-recognition training sets of people who do not exist."""
