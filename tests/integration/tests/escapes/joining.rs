//! What joins a container: taken over, imitated, or led to another container's processes.
