"""From batches of images to a finished dataset, whatever happens in between."""
