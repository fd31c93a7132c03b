"""Tests of the bytes of columns, of JSON text and of SQL over columns."""
