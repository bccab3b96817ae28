"""What every room needs and no other room owns: settings, errors, files and folders of HOME, locks, processes, ports."""
