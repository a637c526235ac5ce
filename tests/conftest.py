from hypothesis import settings

# The same examples each time: what a pull request is judged by must not depend on luck.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
