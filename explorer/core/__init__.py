"""What every room needs: settings, errors, files and folders of HOME, locks, processes, ports."""
