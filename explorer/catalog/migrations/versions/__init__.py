"""One file per change of the catalog's tables, in their order; never edited after release."""
