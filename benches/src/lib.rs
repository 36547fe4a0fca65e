//! Measurements, each a ratio in one run. The first ones come with the credential cache.
