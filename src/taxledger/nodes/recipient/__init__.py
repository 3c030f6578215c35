"""The recipient: a member's node that asks for data under consent, keeps it where it may, and destroys it in time."""
