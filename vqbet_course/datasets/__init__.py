"""Read demonstrations of many kinds, inspect and split them, and write them."""
