"""Whole stories over real processes."""
