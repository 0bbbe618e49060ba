"""The tests; a package, so that what they share (`models`, `servers`) can be imported."""
