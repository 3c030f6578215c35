"""The network of one machine: its folder, its processes, and the supervisor that keeps them running."""
