"""Tests of what stands on disk: which files are meant, lines in, shards out."""
