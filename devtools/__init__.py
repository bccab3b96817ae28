"""Tools for those who develop the project; nothing that runs imports them, and no package ships them."""
