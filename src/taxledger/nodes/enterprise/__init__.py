"""The enterprise's side: its wallet, what it signs, what it is shown before it signs."""
