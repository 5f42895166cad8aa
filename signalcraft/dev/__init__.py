"""Development only: embedded servers, the demo, generated documents."""
