"""How times are written, by language; Django reads it through FORMAT_MODULE_PATH."""
