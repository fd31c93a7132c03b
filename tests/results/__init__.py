"""Tests of results: read, summed up and joined to their frame."""
