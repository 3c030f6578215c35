"""Beginning from another member's snapshot instead of replaying every block.

snapshots.py   taken and kept          parts.py     given piece by piece
fetching.py    fetched and verified    joining.py   put in the place of a store
"""
