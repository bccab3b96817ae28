"""Tools for the project's developers; no other package imports them, and the wheel does not contain them."""
