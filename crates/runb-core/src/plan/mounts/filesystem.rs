//! New filesystems, by fsopen(2) and its family; by mount(2) what those cannot express.

use nix::libc;
use runb_init::Point;

use super::{Filesystem, Made, MountStep, MountWork, Mounts, Planned, Shown, What};
use crate::error::{Error, Result};
use crate::plan::lsm;
use crate::plan::mount_options::{IVERSION, NOSYMFOLLOW, RDONLY};
use crate::plan::program::{Arg, Data, Program, Slot};
use crate::plan::rootfs::T_EMPTY_PATH;
use crate::plan::terminal::receive_descriptor;

const FSOPEN_CLOEXEC: i32 = 1;
const FSMOUNT_CLOEXEC: i32 = 1;
const SET_FLAG: i32 = 0;
const SET_STRING: i32 = 1;
const SET_FD: i32 = 5;
const CMD_CREATE: i32 = 6;
/// The longest value that fsconfig(2) takes, with its NUL (fs/fsopen.c: `strndup_user(_value, 256)`).
const LONGEST_VALUE: usize = 256;

/// What a filesystem is made of.
pub(super) struct Recipe<'r> {
    pub(super) typ: &'r str,
    pub(super) source: &'r [u8],
    pub(super) flags: &'r [&'r str],
    pub(super) data: &'r [String],
    pub(super) attributes: u64,
}

impl Mounts<'_> {
    /// Makes a filesystem of the mount's type.
    pub(super) fn filesystem(&mut self, p: &mut Program, planned: &Planned<'_>) -> Result<Made> {
        let typ = planned.typ();
        let options = &planned.options;
        let mut data = options.data.clone();
        if let Some(mode) = planned.seen.mode.filter(|_| typ == "tmpfs") {
            // As runc: a tmpfs takes over the mode of the directory that it covers; without one it is the kernel's, 1777.
            data.insert(0, format!("mode={mode:04o}"));
        }
        let source =
            planned.mount.source().as_ref().map_or(typ.as_bytes(), |source| source.as_os_str().as_encoded_bytes());
        let mut attributes = options.attributes().set;
        let too_long = |text: &[u8]| text.len() >= LONGEST_VALUE;
        if too_long(source)
            || data.iter().any(|option| too_long(option.split_once('=').map_or("", |(_, value)| value).as_bytes()))
        {
            if typ == "proc" && !matches!(self.shown, Shown::Own) {
                let text = "a procfs of a pid namespace that is joined takes no option of more than 255 bytes";
                return Err(Error::spec(planned.place.as_str(), text));
            }
            return self.classic(p, planned, source, &data);
        }
        let mut flags = options.superblock.clone();
        flags.retain(|name| *name != IVERSION);
        let readonly = attributes & RDONLY != 0;
        match typ {
            // What is mounted below it needs its directories first.
            "tmpfs" => attributes &= !RDONLY,
            // The filesystem as well as the mount, as mount(2) does: a disk may not be written to at all.
            _ if readonly => flags.push("ro"),
            _ => {}
        }
        let context = match self.shown {
            Shown::Stop(namespace) if typ == "proc" => {
                self.steps.push(MountStep { place: planned.place.clone(), work: MountWork::Procfs });
                Some(foreign_context(p, namespace))
            }
            _ => None,
        };
        let slot = self.make(p, &Recipe { typ, source, flags: &flags, data: &data, attributes }, context);
        if typ == "tmpfs" && readonly {
            self.readonly_later.push((planned.place.clone(), slot, attributes));
        }
        // What was copied up may have links.
        let fresh = typ == "tmpfs" && !options.copy_up;
        Ok(Made::Detached(slot, if fresh { Filesystem::Fresh } else { Filesystem::of(typ) }))
    }

    /// Makes it; from `context`, if somebody has begun it.
    pub(super) fn make(&self, p: &mut Program, recipe: &Recipe<'_>, context: Option<Slot>) -> Slot {
        let mut data = recipe.data.to_vec();
        data.extend(lsm::context(recipe.typ, self.label, &data));
        p.doing(what(recipe.typ, &data));
        let context = context.unwrap_or_else(|| {
            let name = p.text(recipe.typ);
            p.call(libc::SYS_fsopen, &[name.into(), FSOPEN_CLOEXEC.into()]).out()
        });
        if let (Shown::Option(namespace), "proc") = (self.shown, recipe.typ) {
            let key = p.text("pidns");
            p.call(libc::SYS_fsconfig, &[context.into(), SET_FD.into(), key.into(), 0.into(), namespace.into()]);
        }
        let key = p.text("source");
        let value = p.text(recipe.source);
        p.call(libc::SYS_fsconfig, &[context.into(), SET_STRING.into(), key.into(), value.into(), 0.into()]);
        configure(p, context, recipe.flags, &data);
        p.call(libc::SYS_fsconfig, &[context.into(), CMD_CREATE.into(), 0.into(), 0.into(), 0.into()]);
        // Where mount_setattr(2) is missing, the new calls do not know this attribute either; mount(2) does.
        let unknown = if self.setter.reaches_detached() { 0 } else { NOSYMFOLLOW };
        let attributes = recipe.attributes & !unknown;
        p.call(libc::SYS_fsmount, &[context.into(), FSMOUNT_CLOEXEC.into(), attributes.into()]).out()
    }

    /// mount(2), for options that are too long for fsconfig(2) (the layers of an overlay), at the working directory.
    fn classic(&self, p: &mut Program, planned: &Planned<'_>, source: &[u8], data: &[String]) -> Result<Made> {
        if !planned.work.is_empty() {
            return Err(Error::spec(
                planned.place.as_str(),
                "an option of more than 255 bytes goes with no id mapping or tmpcopyup",
            ));
        }
        let typ = planned.typ();
        let place = match self.target(p, &planned.seen.path, planned.kind, planned.seen.there) {
            (Arg::Slot(slot), _, flags) if flags & T_EMPTY_PATH != 0 => slot,
            (directory, name, _) => super::resolve(p, directory, name, libc::O_PATH),
        };
        p.call(libc::SYS_fchdir, &[place.into()]);
        p.doing(what(typ, data));
        let dot = p.text(".");
        let flags = planned.options.classic(planned.options.attributes().set);
        let mut data = data.to_vec();
        data.extend(lsm::context(typ, self.label, &data));
        let joined: Vec<String> = data.iter().map(|option| lsm::in_data(option)).collect();
        let (source, typ, data) = (p.text(source), p.text(typ), p.text(joined.join(",")));
        p.call(libc::SYS_mount, &[source.into(), dot.into(), typ.into(), flags.into(), data.into()]);
        leave(p);
        Ok(Made::Attached(super::made::top(p, place), Filesystem::New))
    }

    /// linux.mountLabel for what takes it on its root only.
    pub(super) fn label_root(&self, p: &mut Program, planned: &Planned<'_>, tree: Slot) {
        let Some(label) = self.label.filter(|_| planned.typ() == "mqueue" && matches!(planned.what, What::New)) else {
            return;
        };
        p.call(libc::SYS_fchdir, &[tree.into()]);
        lsm::root_label(p, label);
        leave(p);
    }

    /// `iversion`, which only mount(2) sets: on what is attached, from its own root.
    pub(super) fn versions(&self, p: &mut Program, planned: &Planned<'_>, tree: Slot) {
        if !planned.options.superblock.contains(&IVERSION) || !matches!(planned.what, What::New | What::Prepared(_)) {
            return;
        }
        p.doing("set iversion");
        let flags = libc::MS_REMOUNT | planned.options.classic(planned.options.attributes().set & !later(planned));
        let dot = p.text(".");
        p.call(libc::SYS_fchdir, &[tree.into()]);
        p.call(libc::SYS_mount, &[0.into(), dot.into(), 0.into(), flags.into(), 0.into()]);
        leave(p);
    }
}

/// A context of procfs that the runtime sends, begun in the pid namespace of this descriptor.
fn foreign_context(p: &mut Program, namespace: Slot) -> Slot {
    p.doing("take a procfs that was begun in the pid namespace");
    p.stop_with(Point::Mount, namespace);
    let context = receive_descriptor(p);
    // Whoever is there may have exchanged it. No other filesystem takes this option, whose value is what it is anyway.
    let (key, value) = (p.text("hidepid"), p.text("0"));
    p.call(libc::SYS_fsconfig, &[context.into(), SET_STRING.into(), key.into(), value.into(), 0.into()]);
    context
}

/// The attributes that come when all is mounted.
pub(super) fn later(planned: &Planned<'_>) -> u64 {
    if planned.typ() == "tmpfs" { RDONLY } else { 0 }
}

/// Back to the root.
pub(super) fn leave(p: &mut Program) {
    let slash = p.text("/");
    p.call(libc::SYS_chdir, &[slash.into()]);
}

/// Superblock flags and the filesystem's own options, for a context.
pub(super) fn configure(p: &mut Program, context: Slot, flags: &[&str], data: &[String]) {
    for flag in flags {
        let key = p.text(flag);
        p.call(libc::SYS_fsconfig, &[context.into(), SET_FLAG.into(), key.into(), 0.into(), 0.into()]);
    }
    for option in data {
        let (command, key, value): (i32, Data, Arg) = match option.split_once('=') {
            Some((key, value)) => (SET_STRING, p.text(key), p.text(value).into()),
            None => (SET_FLAG, p.text(option), 0.into()),
        };
        p.call(libc::SYS_fsconfig, &[context.into(), command.into(), key.into(), value, 0.into()]);
    }
}

fn what(typ: &str, data: &[String]) -> String {
    match data {
        [] => format!("mount {typ}"),
        _ => format!("mount {typ} with {:?}", data.join(",")),
    }
}
