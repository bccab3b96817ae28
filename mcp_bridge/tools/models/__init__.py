"""Tools of the toolset `models`: SELECTs that people and agents keep as tables."""
