"""Stages at per-request model APIs: client, circuit breaker, budget, fallback, routing, server."""
