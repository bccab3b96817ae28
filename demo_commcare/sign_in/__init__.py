"""People at the demo server: their accounts, the pages where they log in and allow a program, and the tokens that it gets."""
