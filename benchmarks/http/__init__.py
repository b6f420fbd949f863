"""What the HTTP door costs beside the least that FastAPI and PostgreSQL can be asked to do."""
