"""What all tests share: how hypothesis works on noisy machines."""

from hypothesis import settings

settings.register_profile("forecourt", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("forecourt")
