"""Tests of strict schemas, and of the typed columns that are read by them."""
