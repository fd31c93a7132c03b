"""Tests of tables of every kind as they come in."""
