"""What every answer looks like: the envelope, the token budget that it keeps to, and how instants and names are written."""
