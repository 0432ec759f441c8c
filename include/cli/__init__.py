"""What the launcher hands over to."""
