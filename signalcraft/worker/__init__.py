"""Process deliveries in batches, notify, and keep the deployment healthy."""
