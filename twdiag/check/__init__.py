"""What a check measures and how it judges."""
