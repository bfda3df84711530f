"""What a dataset says of itself: plan, manifest, pieces, ledger, attributes, card, and whether all that is true."""
