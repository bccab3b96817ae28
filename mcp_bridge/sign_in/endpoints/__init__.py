"""What is served under `/oauth/`: the pages for people and the answers for programs."""
