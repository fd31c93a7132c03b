"""The tests, in folders like the wings of the package."""
