"""Many recordings: a folder's run, its journal, and who works on them."""
