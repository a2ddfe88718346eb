//! Only tests: see docs/decisions/libcontainer.md.
