"""The acceptance list, walked as a new user would: ``make acceptance``."""
