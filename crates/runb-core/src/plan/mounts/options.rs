//! The mount options of config.md and config-linux.md, as tables. What is in none of them is the filesystem's own.

use nix::libc;
use nix::libc::{
    MOUNT_ATTR__ATIME as ATIME, MOUNT_ATTR_NOATIME as NOATIME, MOUNT_ATTR_NODEV as NODEV,
    MOUNT_ATTR_NODIRATIME as NODIRATIME, MOUNT_ATTR_NOEXEC as NOEXEC, MOUNT_ATTR_NOSUID as NOSUID,
    MOUNT_ATTR_STRICTATIME as STRICTATIME,
};

pub(in crate::plan) use super::flags::{Attributes, Flags, NOSYMFOLLOW, RDONLY, SWITCHES, keeps_locked, of_statfs};
use super::flags::{WORDS, named};

/// What an option does to the superblock.
#[derive(Clone, Copy)]
enum Superblock {
    Set(&'static str),
    /// The default of a new filesystem: takes back what an earlier option set.
    Unset(&'static str),
    /// Nothing that a filesystem of fsopen(2) knows.
    Nothing,
}

use Superblock::{Nothing, Set as On, Unset as Off};

/// Options of the superblock that every filesystem takes.
///
/// `silent` keeps what a filesystem says of its mount out of the kernel's log. That of fsopen(2) says it to the log of its
/// context instead (fs/fs_context.c, `logfc`), and fsconfig(2) has no such flag (`common_set_sb_flag` there).
/// `mand` is a mark without effect since Linux 5.15 (commit f7e33bdbd6d1 removed mandatory locking); it is set all the same.
const SUPERBLOCK: &[(&str, Superblock)] = &[
    ("sync", On("sync")),
    ("async", Off("sync")),
    ("dirsync", On("dirsync")),
    ("lazytime", On("lazytime")),
    ("nolazytime", Off("lazytime")),
    ("mand", On("mand")),
    ("nomand", Off("mand")),
    ("iversion", On(IVERSION)),
    ("noiversion", Off(IVERSION)),
    ("silent", Nothing),
    ("loud", Nothing),
    ("defaults", Nothing),
];

/// The one superblock option that fsconfig(2) has no flag for (`common_set_sb_flag` in fs/fs_context.c); mount(2) has.
pub(in crate::plan) const IVERSION: &str = "iversion";

/// The MS_* flags of superblock options and attributes, for mount(2).
const CLASSIC: &[(&str, u64)] = &[
    ("sync", libc::MS_SYNCHRONOUS),
    ("dirsync", libc::MS_DIRSYNC),
    ("lazytime", libc::MS_LAZYTIME),
    ("mand", libc::MS_MANDLOCK),
    (IVERSION, libc::MS_I_VERSION),
];
const CLASSIC_ATTRIBUTES: &[(u64, u64)] = &[
    (RDONLY, libc::MS_RDONLY),
    (NOSUID, libc::MS_NOSUID),
    (NODEV, libc::MS_NODEV),
    (NOEXEC, libc::MS_NOEXEC),
    (NOATIME, libc::MS_NOATIME),
    (STRICTATIME, libc::MS_STRICTATIME),
    (NODIRATIME, libc::MS_NODIRATIME),
    // MS_NOSYMFOLLOW, which libc lacks (include/uapi/linux/mount.h).
    (NOSYMFOLLOW, 0x100),
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
pub(in crate::plan) fn propagation(word: &str) -> Option<u64> {
    PROPAGATION.iter().find(|(name, _)| *name == word).map(|(_, flags)| *flags)
}

/// The flags of a mount(2) with `MS_REMOUNT | MS_BIND` that changes a mount which has the attributes `had`. Access times stay
/// as they are where no flag speaks of them (`path_mount` in fs/namespace.c).
pub(in crate::plan) fn classic(had: u64, change: Attributes) -> u64 {
    const TIMES: u64 = ATIME | NODIRATIME;
    let now = change.on(had);
    if (change.set | change.clear) & TIMES == 0 {
        return classic_flags(now & !TIMES);
    }
    let relative = if now & ATIME == 0 { libc::MS_RELATIME } else { 0 };
    classic_flags(now) | relative
}

fn classic_flags(attributes: u64) -> u64 {
    CLASSIC_ATTRIBUTES.iter().filter(|(bit, _)| attributes & bit != 0).fold(0, |all, (_, flag)| all | flag)
}

/// What a cgroup filesystem is mounted with: it has neither devices nor programs.
pub(in crate::plan) const CGROUP: u64 = NOSUID | NODEV | NOEXEC;

/// The first option that reaches the mounts below.
pub(in crate::plan) fn recursive_word(options: &[String]) -> Option<&str> {
    let known = |word: &&str| word.strip_prefix('r').is_some_and(|rest| named(rest).is_some()) && named(word).is_none();
    options.iter().map(String::as_str).find(known)
}

const SYMFOLLOW: [&str; 4] = ["nosymfollow", "symfollow", "rnosymfollow", "rsymfollow"];

/// The first option that is about links.
pub(in crate::plan) fn symfollow_word(options: &[String]) -> Option<&str> {
    options.iter().map(String::as_str).find(|word| SYMFOLLOW.contains(word))
}

/// How far a change reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The mount itself (`idmap`).
    Top,
    /// The mount and those below it (`ridmap`).
    Below,
}

/// A mount's options, sorted by what acts on them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::plan) struct Parsed {
    /// The flags for the mount alone.
    pub(in crate::plan) flags: Flags,
    /// Whether any flag is given, of the mount alone or of the filesystem.
    pub(in crate::plan) any: bool,
    /// The mount's own attributes.
    pub(in crate::plan) own: Attributes,
    /// The attributes of it and all below it.
    pub(in crate::plan) recursive: Attributes,
    /// MS_* propagation flags, each applied in order.
    pub(in crate::plan) propagation: Vec<u64>,
    /// `rbind`.
    pub(in crate::plan) recursive_bind: bool,
    /// Superblock options that every filesystem takes.
    pub(in crate::plan) superblock: Vec<&'static str>,
    /// `remount`: what is there already is changed.
    pub(in crate::plan) remount: bool,
    /// `tmpcopyup`.
    pub(in crate::plan) copy_up: bool,
    /// `idmap` or `ridmap`.
    pub(in crate::plan) idmap: Option<Reach>,
    /// What only the filesystem knows.
    pub(in crate::plan) data: Vec<String>,
}

impl Parsed {
    /// The attributes of a mount with nothing below it.
    pub(in crate::plan) fn attributes(&self) -> Attributes {
        self.own.then(self.recursive)
    }

    /// The superblock options and `attributes` as the flags of mount(2).
    pub(in crate::plan) fn classic(&self, attributes: u64) -> u64 {
        let superblock = CLASSIC.iter().filter(|(name, _)| self.superblock.contains(name)).map(|(_, flag)| flag);
        superblock.fold(classic_flags(attributes), |all, flag| all | flag)
    }

    fn superblock(&mut self, change: Superblock) {
        match change {
            On(name) if !self.superblock.contains(&name) => self.superblock.push(name),
            Off(name) => self.superblock.retain(|other| *other != name),
            On(_) | Nothing => {}
        }
    }
}

/// The parts of a filesystem's own option: mount(2) takes several in one string, with commas between, and quotes around a
/// security context that has commas itself.
fn parts(option: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for c in option.chars() {
        match c {
            '"' if !escaped => quoted = !quoted,
            ',' if escaped => {
                let last = parts.last_mut().expect("one at least");
                last.pop();
                last.push(c);
            }
            ',' if !quoted => parts.push(String::new()),
            _ => parts.last_mut().expect("one at least").push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Sorts `options`; the last of those that contradict each other holds, as with mount(8).
pub(in crate::plan) fn parse(options: &[String]) -> Parsed {
    let mut parsed = Parsed::default();
    let mut below = Flags::default();
    for option in options {
        let word = option.as_str();
        if let Some(change) = named(word) {
            parsed.flags.take(change);
            parsed.any = true;
        } else if let Some(change) = word.strip_prefix('r').and_then(named) {
            below.take(change);
        } else if let Some(flags) = propagation(word) {
            parsed.propagation.push(flags);
        } else if let Some((_, change)) = SUPERBLOCK.iter().find(|(name, _)| *name == word) {
            parsed.superblock(*change);
            parsed.any |= word != "defaults";
        } else {
            match word {
                "bind" => {}
                "rbind" => parsed.recursive_bind = true,
                "tmpcopyup" => parsed.copy_up = true,
                "remount" => parsed.remount = true,
                "idmap" => parsed.idmap = Some(Reach::Top),
                "ridmap" => parsed.idmap = Some(Reach::Below),
                _ => parsed.data.extend(parts(option)),
            }
        }
    }
    Parsed { own: parsed.flags.change(), recursive: below.change(), ..parsed }
}

/// The names of all options that are not a filesystem's own, for `features`.
pub fn option_names() -> Vec<String> {
    let own = WORDS.iter().map(|(name, _)| (*name).to_owned());
    let recursive = WORDS.iter().map(|(name, _)| format!("r{name}"));
    let superblock = SUPERBLOCK.iter().map(|(name, _)| (*name).to_owned());
    let propagation = PROPAGATION.iter().map(|(name, _)| (*name).to_owned());
    let mut names: Vec<String> = own.chain(recursive).chain(superblock).chain(propagation).collect();
    names.extend(["bind", "rbind", "remount", "idmap", "ridmap", "tmpcopyup"].map(str::to_owned));
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
    fn relatime_and_rro_are_not_mixed_up_with_recursive_forms() {
        assert_eq!(parse_words("relatime").recursive, Attributes::default());
        assert_eq!(parse_words("rro").recursive, Attributes { set: RDONLY, clear: 0 });
        assert_eq!(parse_words("rrelatime").recursive, Attributes { set: 0, clear: ATIME });
    }

    #[test]
    fn a_default_takes_back_what_an_earlier_option_set() {
        assert_eq!(
            parse_words("sync,async,lazytime,iversion,noiversion,silent,loud,defaults").superblock,
            ["lazytime"]
        );
    }

    #[test]
    fn attributes_with_an_r_come_after_those_without() {
        assert_eq!(parse_words("ro,rrw,nosuid").attributes(), Attributes { set: NOSUID, clear: RDONLY });
        assert_eq!(parse_words("noatime,rstrictatime").attributes(), Attributes { set: STRICTATIME, clear: ATIME });
    }

    #[test]
    fn one_string_may_hold_several_options_of_a_filesystem() {
        let option = r#"size=1k,context="a:s0:c1,c2",lowerdir=/a\,b"#.to_owned();
        assert_eq!(parse(&[option]).data, ["size=1k", "context=a:s0:c1,c2", "lowerdir=/a,b"]);
    }

    #[test]
    fn what_is_no_option_of_every_mount_is_the_filesystems() {
        assert_eq!(parse_words("nosuid,size=65536k,newinstance").data, ["size=65536k", "newinstance"]);
    }
}
