"""Text lists and CSVs of pictures with labels."""
