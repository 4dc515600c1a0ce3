"""What an artifact holds, whether it still does, and rebuilding what does not: ``lima verify``."""
