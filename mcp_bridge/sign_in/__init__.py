"""People sign in: the authorization server of the bridge, and those who know the people."""
