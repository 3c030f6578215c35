"""The embedded engine: one fixed sequencer, votes, decisions, all over mutual TLS (docs/architecture.md).

messages.py    what travels between sequencer and followers
follower.py    executes a proposal, votes once, commits what a quorum decided
sequencer.py   cuts batches, collects votes, commits; links.py brings each peer up to date
votebook.py    the votes seen for the next height: tells a split and who voted twice
"""
