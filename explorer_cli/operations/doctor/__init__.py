"""`explorer doctor`: what is wrong with this installation, and how is it mended? Looks only, changes nothing."""
