"""A member's process: ordering, certification, custodian, sources, and the network on one machine."""
