"""Tests of batches: submitted, followed, downloaded, or answered live."""
