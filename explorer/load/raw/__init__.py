"""Raw tables: what they look like, how rows become what COPY takes, and how what differs gets into them in one transaction."""
