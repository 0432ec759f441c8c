"""Versioned contracts: briefs, requests, results, manifests, consent records."""
