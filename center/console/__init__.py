"""The console: what operators look at and work with, in a browser.

Here: pages, and who may see them. Not here: nouns and their rules; the console edits through the
desk, as the API does, and reads what everybody reads.
"""
