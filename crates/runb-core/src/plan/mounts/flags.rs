//! The options that are a mount's own flags, and what they make of a new mount, of one that is there, and of a bind mount.

use nix::libc::{
    MOUNT_ATTR__ATIME as ATIME, MOUNT_ATTR_NOATIME as NOATIME, MOUNT_ATTR_NODEV as NODEV,
    MOUNT_ATTR_NODIRATIME as NODIRATIME, MOUNT_ATTR_NOEXEC as NOEXEC, MOUNT_ATTR_NOSUID as NOSUID,
    MOUNT_ATTR_STRICTATIME as STRICTATIME,
};
pub(in crate::plan) use nix::libc::{MOUNT_ATTR_NOSYMFOLLOW as NOSYMFOLLOW, MOUNT_ATTR_RDONLY as RDONLY};

/// No attribute: what access times are without another flag.
const RELATIME: u64 = 1 << 63;

/// What an option does to the flags that are given.
#[derive(Clone, Copy)]
pub(super) enum Word {
    Set(u64),
    Clear(u64),
}

use Word::{Clear, Set};

/// With an `r` before it, an option is for the mounts below as well.
pub(super) const WORDS: &[(&str, Word)] = &[
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
    ("noatime", Set(NOATIME)),
    ("atime", Clear(NOATIME)),
    ("relatime", Set(RELATIME)),
    ("norelatime", Clear(RELATIME)),
    ("strictatime", Set(STRICTATIME)),
    ("nostrictatime", Clear(STRICTATIME)),
    ("nosymfollow", Set(NOSYMFOLLOW)),
    ("symfollow", Clear(NOSYMFOLLOW)),
];

/// The flags that are on or off; access times are one of three.
pub(in crate::plan) const SWITCHES: u64 = RDONLY | NOSUID | NODEV | NOEXEC | NOSYMFOLLOW;
const TIMES: u64 = NOATIME | STRICTATIME | RELATIME;
/// What another user namespace than that which a mount was made in must leave as it is (MNT_LOCK_* in include/linux/mount.h).
const LOCKED: u64 = RDONLY | NOSUID | NODEV | NOEXEC;

pub(super) fn named(word: &str) -> Option<Word> {
    WORDS.iter().find(|(name, _)| *name == word).map(|(_, word)| *word)
}

/// The names of the flags in `bits`.
fn names(bits: u64) -> String {
    let set = WORDS.iter().filter(|(_, word)| matches!(word, Set(bit) if bits & bit != 0));
    set.map(|(name, _)| *name).collect::<Vec<_>>().join(",")
}

/// A change of mount attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::plan) struct Attributes {
    pub(in crate::plan) set: u64,
    pub(in crate::plan) clear: u64,
}

impl Attributes {
    pub(in crate::plan) fn is_empty(self) -> bool {
        self == Attributes::default()
    }

    /// Attributes that are set.
    pub(in crate::plan) fn setting(set: u64) -> Self {
        Attributes { set, clear: 0 }
    }

    /// What becomes of a mount that has the attributes `had`.
    pub(in crate::plan) fn on(self, had: u64) -> u64 {
        had & !self.clear | self.set
    }

    /// These, and then `later` on top.
    pub(in crate::plan) fn then(self, later: Attributes) -> Attributes {
        Attributes { set: self.set & !later.clear | later.set, clear: self.clear & !later.set | later.clear }
    }
}

/// The flags that are given; the last word about each holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::plan) struct Flags {
    set: u64,
    cleared: u64,
}

impl Flags {
    pub(super) fn take(&mut self, word: Word) {
        (self.set, self.cleared) = match word {
            Set(bit) => (self.set | bit, self.cleared & !bit),
            Clear(bit) => (self.set & !bit, self.cleared | bit),
        };
    }

    /// Of several access times the kernel takes this one (`path_mount` in fs/namespace.c).
    fn time(self) -> u64 {
        match self.set {
            set if set & STRICTATIME != 0 => STRICTATIME,
            set => set & NOATIME,
        }
    }

    /// What they change, and nothing else; access times that are cleared are `relatime`.
    pub(in crate::plan) fn change(self) -> Attributes {
        let (set, clear) = (self.set & !TIMES, self.cleared & !TIMES);
        match (self.set | self.cleared) & TIMES {
            0 => Attributes { set, clear },
            _ => Attributes { set: set | self.time(), clear: clear | ATIME },
        }
    }

    /// What makes of a mount one with just these flags, as mount(2) does by `MS_REMOUNT | MS_BIND`: access times are kept unless
    /// one of their flags is set.
    pub(in crate::plan) fn exactly(self) -> Attributes {
        let set = self.set & SWITCHES;
        let switches = Attributes { set, clear: SWITCHES & !set };
        if self.set & (TIMES | NODIRATIME) == 0 {
            return switches;
        }
        let (time, clear) = (self.time() | self.set & NODIRATIME, NODIRATIME & !self.set | ATIME);
        switches.then(Attributes { set: time, clear })
    }

    /// The same where what a flag takes away is locked: that stays, and only what is said to be cleared has to be. `nosymfollow` is
    /// never locked.
    pub(in crate::plan) fn beside_locked(self) -> Attributes {
        let Attributes { set, clear } = self.exactly();
        Attributes { set, clear: clear & !LOCKED | self.cleared & LOCKED }
    }

    /// The same for a mount that has the attributes `had`, all of which are locked.
    ///
    /// # Errors
    /// A flag would change what is locked: in words.
    pub(in crate::plan) fn on_locked(self, had: u64) -> Result<Attributes, String> {
        let exact = self.exactly();
        if keeps_locked(had, exact.on(had)).is_ok() {
            return Ok(exact);
        }
        let relative = if had & ATIME == 0 { RELATIME } else { 0 };
        let cleared = self.cleared & (had | relative) & (LOCKED | TIMES | NODIRATIME);
        if cleared != 0 {
            return Err(format!("cannot clear {} of the source's mount, which is locked", names(cleared)));
        }
        let change = self.beside_locked();
        keeps_locked(had, change.on(had)).map(|()| change)
    }
}

/// Whether what is locked in a mount with the attributes `had` is the same in one with the attributes `now`.
///
/// # Errors
/// It is not: in words.
pub(in crate::plan) fn keeps_locked(had: u64, now: u64) -> Result<(), String> {
    let cleared = had & LOCKED & !now;
    if cleared != 0 {
        return Err(format!("cannot clear {} of the source's mount, which is locked", names(cleared)));
    }
    if (now ^ had) & (ATIME | NODIRATIME) != 0 {
        let relative = if had & ATIME == 0 { RELATIME } else { 0 };
        let times = names((had | relative) & (TIMES | NODIRATIME));
        return Err(format!("cannot change {times} of the source's mount, which is locked"));
    }
    Ok(())
}

/// The attributes of a mount by the `ST_*` flags of statfs(2); of one that nobody has asked for, none.
pub(in crate::plan) fn of_statfs(flags: u64) -> u64 {
    use nix::libc;
    // ST_NOSYMFOLLOW, which libc lacks (include/linux/statfs.h).
    const FLAGS: &[(u64, u64)] = &[
        (libc::ST_RDONLY, RDONLY),
        (libc::ST_NOSUID, NOSUID),
        (libc::ST_NODEV, NODEV),
        (libc::ST_NOEXEC, NOEXEC),
        (libc::ST_NOATIME, NOATIME),
        (libc::ST_NODIRATIME, NODIRATIME),
        (0x2000, NOSYMFOLLOW),
    ];
    // The kernel always says ST_VALID.
    let strict = if flags != 0 && flags & (libc::ST_NOATIME | libc::ST_RELATIME) == 0 { STRICTATIME } else { 0 };
    FLAGS.iter().filter(|(flag, _)| flags & flag != 0).fold(strict, |all, (_, bit)| all | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(words: &str) -> Flags {
        let mut flags = Flags::default();
        words.split(',').filter_map(named).for_each(|word| flags.take(word));
        flags
    }

    #[test]
    fn the_last_word_about_a_flag_holds() {
        assert_eq!(flags("ro,rw").change(), Attributes { set: 0, clear: RDONLY });
        assert_eq!(flags("rw,ro").change(), Attributes { set: RDONLY, clear: 0 });
    }

    #[test]
    fn a_mount_has_exactly_the_flags_that_are_given_and_the_access_times_of_its_source_unless_one_is_set() {
        let had = RDONLY | NOEXEC | NOSYMFOLLOW | NODIRATIME | NOATIME;
        for (words, has) in [
            ("dev", NODIRATIME | NOATIME),
            ("nosuid,nodev", NOSUID | NODEV | NODIRATIME | NOATIME),
            ("ro,exec", RDONLY | NODIRATIME | NOATIME),
            ("atime", NODIRATIME | NOATIME),
            ("diratime", NODIRATIME | NOATIME),
            ("norelatime", NODIRATIME | NOATIME),
            ("relatime", 0),
            ("strictatime", STRICTATIME),
            ("nodiratime", NODIRATIME),
            ("nodiratime,strictatime", NODIRATIME | STRICTATIME),
            ("nodiratime,norelatime", NODIRATIME),
            ("noatime,relatime", NOATIME),
        ] {
            assert_eq!(flags(words).exactly().on(had), has, "{words}");
        }
    }

    #[test]
    fn what_is_locked_stays_unless_a_word_wants_it_otherwise() {
        let had = RDONLY | NOEXEC | NOSYMFOLLOW;
        let on = |words: &str, had| flags(words).on_locked(had).map(|change| change.on(had));
        assert_eq!(on("dev", had), Ok(RDONLY | NOEXEC));
        assert_eq!(on("nosuid,nodev", had), Ok(RDONLY | NOEXEC | NOSUID | NODEV));
        assert_eq!(on("ro,nosymfollow", NOATIME), Ok(RDONLY | NOSYMFOLLOW | NOATIME));
        assert_eq!(on("ro,noatime", NODEV | NOATIME), Ok(RDONLY | NODEV | NOATIME));
        for (words, had, text) in [
            ("rw", RDONLY, "cannot clear ro of the source's mount, which is locked"),
            (
                "dev,suid,exec",
                NODEV | NOSUID | RDONLY,
                "cannot clear nosuid,nodev of the source's mount, which is locked",
            ),
            ("relatime", STRICTATIME, "cannot change strictatime of the source's mount, which is locked"),
            ("nodiratime", 0, "cannot change relatime of the source's mount, which is locked"),
            ("ro,atime", NODEV | NOATIME, "cannot clear noatime of the source's mount, which is locked"),
        ] {
            assert_eq!(on(words, had), Err(text.to_owned()), "{words}");
        }
        for (words, had) in [("atime", NOATIME), ("norelatime", 0), ("nostrictatime", STRICTATIME)] {
            assert_eq!(on(words, had), Ok(had), "{words}");
        }
    }
}
