"""The form of every answer: the envelope, its token budget, and how times and names are written."""
