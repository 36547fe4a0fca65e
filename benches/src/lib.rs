//! For measurements, each a ratio in one run. Nothing is measured yet.
