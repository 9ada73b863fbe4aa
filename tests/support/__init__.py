"""What the tests share: one module for each concept, imported as support.NAME."""
