//! The container's files: its root filesystem, what is mounted into it, devices, masks.

pub(super) mod attributes;
pub(super) mod devices;
mod flags;
pub(super) mod list;
pub(super) mod masks;
pub(super) mod options;
pub(super) mod rootfs;
