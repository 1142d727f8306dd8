"""Calling tenants' webhooks: which addresses may be called, what a message is signed with, and its delivery."""
