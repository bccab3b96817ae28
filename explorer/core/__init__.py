"""What every room stands on: settings, errors, files and folders of HOME, locks, processes, ports. Knows no database."""
