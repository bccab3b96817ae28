"""The processes of one HOME started, watched, restarted and stopped, whatever they are."""
