"""What many tests use: places, tiny models, a hub, recordings, fakes."""
