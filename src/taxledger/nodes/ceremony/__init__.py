"""How members that run their own machines make a network together: only public parts leave a home."""
