"""The REST API of a lender: applications from its own counter and from platforms, officers, the core banking system."""
