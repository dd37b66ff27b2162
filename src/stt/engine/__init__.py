"""Models at work: recognisers, decoding, precision and provider."""
