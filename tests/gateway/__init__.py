"""Tests of the gateway; a package, so that module names need not be unique over all tests."""
