"""For all tests: one kernel cache of their own."""

import os

from hypothesis import settings

settings.register_profile(
    "microgradx", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True
)
settings.load_profile("microgradx")


def pytest_configure(config):
    """Kernels compile once and are kept with pytest's cache, away from the user's."""
    if "MICROGRADX_CACHE" not in os.environ:
        os.environ["MICROGRADX_CACHE"] = str(config.cache.mkdir("kernels"))
