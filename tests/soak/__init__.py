"""What takes too long for each change and is run by hand: `python -m tests.soak.survive`. Results stand in docs/survival.md."""
