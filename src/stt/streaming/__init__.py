"""Live transcription: sound in, text out while somebody speaks."""
