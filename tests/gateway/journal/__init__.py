"""Tests of the journal over real files and real processes."""
