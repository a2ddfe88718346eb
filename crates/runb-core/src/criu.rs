//! CRIU, which saves the processes of a container and brings them back: what is asked of it, and the conversation in which that
//! is done. It is another program (`criu swrk`), found by the caller's search path.
//!
//! What is asked is a value made of the configuration, the state and the options ([`dump`], [`restore`]); nothing is done by that.
//! The names in it are those of runc, so that the images of one runtime are restored by the other.

mod conversation;
mod descriptors;
mod external;
mod folder;
mod mountpoints;
mod request;
mod version;
mod wire;

pub(crate) use conversation::{Conversation, Heard, Stdio};
pub(crate) use descriptors::Descriptors;
pub(crate) use external::{External, Namespaces, Seen, short};
pub(crate) use folder::{Folder, Found, PASSABLE, SECRET};
pub(crate) use mountpoints::make as make_mountpoints;
pub(crate) use request::{
    DUMP_LOG, Dump, RESTORE_LOG, Restore, Task, dump, dump_needs, dump_task, memory_needs, restore, restore_needs,
};
