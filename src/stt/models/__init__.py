"""Models on disk: catalogue, folders, installation."""
