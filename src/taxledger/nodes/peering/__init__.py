"""Messages between members' nodes: mutual TLS, who is reached where.

transport.py   client and server of peer messages
table.py       the members this node knows
addresses.py   where they say they are
"""
