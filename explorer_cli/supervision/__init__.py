"""Starts, watches, restarts and stops the processes of one HOME; knows no part by name."""
