"""What stands in for the service, and the tests of it."""
