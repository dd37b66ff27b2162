"""The server: the engine of `stt transcribe` and `stt live` for programs, over a network."""
