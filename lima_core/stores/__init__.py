"""Artifacts on disk: what each file holds, and how it is written so that it is either whole or absent."""
