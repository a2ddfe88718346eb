//! The published escapes, each really tried, beside a directory of the host that must stay as it is. docs/security.md has the
//! table. Each attack has a twin, the same configuration without it, which must start.

#[path = "escapes/binary.rs"]
mod binary;
#[path = "escapes/canary.rs"]
mod canary;
#[path = "escapes/descriptors.rs"]
mod descriptors;
#[path = "escapes/destinations.rs"]
mod destinations;
#[path = "escapes/devices.rs"]
mod devices;
#[path = "escapes/exchange.rs"]
mod exchange;
#[path = "escapes/exec.rs"]
mod exec;
#[path = "escapes/joining.rs"]
mod joining;
#[path = "escapes/masks.rs"]
mod masks;
#[path = "escapes/names.rs"]
mod names;
#[path = "escapes/neighbours.rs"]
mod neighbours;
#[path = "escapes/races.rs"]
mod races;
#[path = "escapes/renames.rs"]
mod renames;
#[path = "escapes/sources.rs"]
mod sources;
#[path = "escapes/users.rs"]
mod users;
