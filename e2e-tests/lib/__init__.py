"""What the stories share."""
