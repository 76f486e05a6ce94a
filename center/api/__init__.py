"""The REST API, /api/v1: thin routes, one file per noun.

Here: paths, queries, statuses, schemas. Not here: what the nouns do.
"""
