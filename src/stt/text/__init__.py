"""Words out: words, segments, subtitles, formats, and what is no speech."""
