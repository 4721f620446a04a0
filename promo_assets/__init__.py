"""Personalised promotions as a Dagster data platform: events in, audited strategies out."""
