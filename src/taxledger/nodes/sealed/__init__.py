"""Sealed stores: SQLite files whose rows are encrypted, under keys that a key provider wraps.

store       ``SealedStore`` and ``sealed_store``: what the custodian and a recipient work with
layout      which tables a store has, and which columns of them are sealed
keyring     the data keys of one store, wrapped in its ``meta``
providers   ``KeyProvider``, and the one whose key lies in a file
sealing     the cipher
database    SQLite: durability, errors, locks, deletion that is real
"""
