"""Model families: what turns encoder frames into tokens."""
