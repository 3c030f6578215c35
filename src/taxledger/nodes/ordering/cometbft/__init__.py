"""The CometBFT engine: a process of its own orders the transactions, and asks us over ABCI 2.0.

wire.py      protobuf, as far as ABCI needs it: varints, fields, and dataclasses that say their field numbers
values.py    what requests and responses are made of: validators, votes, results, parameters, snapshots
requests.py  what the engine asks
responses.py what we answer
messages.py  all of them, and the envelopes they travel in
server.py    the socket that the engine dials: four connections, replies strictly in order
"""
