"""The HTTP door: the facade behind FastAPI. `docs/http.md` describes it for its users."""
