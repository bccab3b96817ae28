"""From a provider's pages to records and proofs: what was read, up to which moment, and what is gone."""
