from hypothesis import settings

# no deadline: a busy machine is not a failure; the blob reproduces one
settings.register_profile("spf", deadline=None, print_blob=True)
settings.load_profile("spf")
