"""The product beside other programs that carry readings from a broker to a server."""
