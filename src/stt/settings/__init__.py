"""Settings: stt_config.json, the environment and flags, each source checked."""
