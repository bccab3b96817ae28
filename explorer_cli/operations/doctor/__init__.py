"""`explorer doctor`: finds what is wrong with this installation and says how to fix it. It changes nothing."""
