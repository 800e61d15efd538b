"""The round protocol of sites and coordinator, and its transports."""
