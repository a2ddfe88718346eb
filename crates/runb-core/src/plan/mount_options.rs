//! The mount options of config.md and config-linux.md, as tables. What is in none of them is the filesystem's own.

use nix::libc;

/// struct mount_attr's bits.
pub(super) const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;
const ATIME: u64 = 0x70;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const NODIRATIME: u64 = 0x80;
const NOSYMFOLLOW: u64 = 0x20_0000;

/// What an option does to a mount's attributes.
#[derive(Clone, Copy)]
enum Change {
    Set(u64),
    Clear(u64),
    /// One of the exclusive access time modes.
    Time(u64),
}

use Change::{Clear, Set, Time};

/// Attributes of a mount; with an `r` before it, of the mounts below as well.
const ATTRIBUTES: &[(&str, Change)] = &[
    ("ro", Set(RDONLY)),
    ("rw", Clear(RDONLY)),
    ("nosuid", Set(NOSUID)),
    ("suid", Clear(NOSUID)),
    ("nodev", Set(NODEV)),
    ("dev", Clear(NODEV)),
    ("noexec", Set(NOEXEC)),
    ("exec", Clear(NOEXEC)),
    ("nodiratime", Set(NODIRATIME)),
    ("diratime", Clear(NODIRATIME)),
    ("noatime", Time(NOATIME)),
    ("atime", Time(0)),
    ("relatime", Time(0)),
    ("norelatime", Time(STRICTATIME)),
    ("strictatime", Time(STRICTATIME)),
    ("nostrictatime", Time(0)),
    ("nosymfollow", Set(NOSYMFOLLOW)),
    ("symfollow", Clear(NOSYMFOLLOW)),
];

/// Options of the superblock that every filesystem takes; `None`: the default, nothing to do.
const SUPERBLOCK: &[(&str, Option<&str>)] = &[
    ("sync", Some("sync")),
    ("async", None),
    ("dirsync", Some("dirsync")),
    ("lazytime", Some("lazytime")),
    ("nolazytime", None),
    ("mand", Some("mand")),
    ("nomand", None),
    ("silent", None),
    ("loud", None),
    ("iversion", None),
    ("noiversion", None),
    ("defaults", None),
    ("remount", None),
];

const PROPAGATION: &[(&str, u64)] = &[
    ("private", libc::MS_PRIVATE),
    ("rprivate", libc::MS_PRIVATE | libc::MS_REC),
    ("shared", libc::MS_SHARED),
    ("rshared", libc::MS_SHARED | libc::MS_REC),
    ("slave", libc::MS_SLAVE),
    ("rslave", libc::MS_SLAVE | libc::MS_REC),
    ("unbindable", libc::MS_UNBINDABLE),
    ("runbindable", libc::MS_UNBINDABLE | libc::MS_REC),
];

/// The MS_* flags of a propagation's name.
pub(super) fn propagation(word: &str) -> Option<u64> {
    PROPAGATION.iter().find(|(name, _)| *name == word).map(|(_, flags)| *flags)
}

/// A change of mount attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) set: u64,
    pub(super) clear: u64,
}

impl Attributes {
    fn apply(&mut self, change: Change) {
        match change {
            Set(bits) => (self.set, self.clear) = (self.set | bits, self.clear & !bits),
            Clear(bits) => (self.set, self.clear) = (self.set & !bits, self.clear | bits),
            Time(mode) => (self.set, self.clear) = (self.set & !ATIME | mode, self.clear | ATIME),
        }
    }

    pub(super) fn is_empty(self) -> bool {
        self == Attributes::default()
    }
}

/// A mount's options, sorted by what acts on them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    /// The mount's own attributes.
    pub(super) own: Attributes,
    /// The attributes of it and all below it.
    pub(super) recursive: Attributes,
    /// MS_* propagation flags, each applied in order.
    pub(super) propagation: Vec<u64>,
    /// `rbind`.
    pub(super) recursive_bind: bool,
    /// Flags for fsconfig(2) that every filesystem takes.
    pub(super) superblock: Vec<&'static str>,
    /// `tmpcopyup`.
    pub(super) copy_up: bool,
    /// `idmap` or `ridmap`.
    pub(super) idmap: Option<&'static str>,
    /// What only the filesystem knows.
    pub(super) data: Vec<String>,
}

/// Sorts `options`; the last of those that contradict each other holds, as with mount(8).
pub(super) fn parse(options: &[String]) -> Parsed {
    let mut parsed = Parsed::default();
    for option in options {
        let word = option.as_str();
        if let Some((_, change)) = ATTRIBUTES.iter().find(|(name, _)| *name == word) {
            parsed.own.apply(*change);
        } else if let Some((_, change)) =
            word.strip_prefix('r').and_then(|rest| ATTRIBUTES.iter().find(|(name, _)| *name == rest))
        {
            parsed.recursive.apply(*change);
        } else if let Some(flags) = propagation(word) {
            parsed.propagation.push(flags);
        } else if let Some((_, flag)) = SUPERBLOCK.iter().find(|(name, _)| *name == word) {
            parsed.superblock.extend(*flag);
        } else {
            match word {
                "bind" => {}
                "rbind" => parsed.recursive_bind = true,
                "tmpcopyup" => parsed.copy_up = true,
                "idmap" => parsed.idmap = Some("idmap"),
                "ridmap" => parsed.idmap = Some("ridmap"),
                _ => parsed.data.push(option.clone()),
            }
        }
    }
    parsed
}

/// The names of all options that are not a filesystem's own, for `features`.
pub fn option_names() -> Vec<String> {
    let own = ATTRIBUTES.iter().map(|(name, _)| (*name).to_owned());
    let recursive = ATTRIBUTES.iter().map(|(name, _)| format!("r{name}"));
    let superblock = SUPERBLOCK.iter().map(|(name, _)| (*name).to_owned());
    let propagation = PROPAGATION.iter().map(|(name, _)| (*name).to_owned());
    let mut names: Vec<String> = own.chain(recursive).chain(superblock).chain(propagation).collect();
    names.extend(["bind", "rbind"].map(str::to_owned));
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Parsed {
        parse(&words.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_last_of_contradicting_options_holds() {
        assert_eq!(parse_words("ro,rw").own, Attributes { set: 0, clear: RDONLY });
        assert_eq!(parse_words("rw,ro").own, Attributes { set: RDONLY, clear: 0 });
    }

    #[test]
    fn relatime_and_rro_are_not_mixed_up_with_recursive_forms() {
        assert_eq!(parse_words("relatime").recursive, Attributes::default());
        assert_eq!(parse_words("rro").recursive, Attributes { set: RDONLY, clear: 0 });
        assert_eq!(parse_words("rrelatime").recursive, Attributes { set: 0, clear: ATIME });
    }

    #[test]
    fn what_is_no_option_of_every_mount_is_the_filesystems() {
        assert_eq!(parse_words("nosuid,size=65536k,newinstance").data, ["size=65536k", "newinstance"]);
    }
}
