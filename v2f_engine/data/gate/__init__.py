"""What looks at strangers' bytes before anything else does: images, text, pickles, positions in files."""
