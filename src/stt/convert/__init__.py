"""Model conversion: one format to another, one precision to another."""
