"""Set-up: fetch a model, convert it, prove it, measure it, remember it."""
