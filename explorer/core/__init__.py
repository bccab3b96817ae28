"""What every room needs and no other room owns: settings, errors, identifiers, private files, processes."""
