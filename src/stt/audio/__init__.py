"""Recordings in: files, resampling, voice activity, cutting."""
