"""Tests of requests: made of tables, written, and read back."""
