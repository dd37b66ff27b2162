"""Speed of an installed model, and of other engines beside it."""
