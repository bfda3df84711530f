"""A folder, zip or tar that holds a folder per person: who is on which picture; one rule for all three."""
