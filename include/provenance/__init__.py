"""Where a video came from, said in a way that others can check: C2PA signing and verification."""
