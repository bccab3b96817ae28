"""What is wrong, and who is told? A sensor that looks every minute and posts what is new to a webhook."""
