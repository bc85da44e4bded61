"""Environments of this project's own."""
