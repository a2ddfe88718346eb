//! New filesystems, by fsopen(2) and its family; by mount(2) what those cannot express.

use nix::libc;
use runb_init::{Point, Report};

use super::{MountStep, MountWork, Mounts, Planned, Shown, What};
use crate::error::{Error, Result};
use crate::plan::lsm;
use crate::plan::mounts::options::{IVERSION, NOSYMFOLLOW, RDONLY};
use crate::plan::program::{AT_EMPTY_PATH, AT_FDCWD, Hint, NULL, O_DIRECTORY, O_PATH, OPEN_TREE_CLONE, Program, Slot};

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

/// Who begins a filesystem, and who creates it.
#[derive(Clone, Copy)]
pub(super) enum By<'r> {
    /// Init both.
    Init,
    /// Somebody has begun this context.
    Context(Slot),
    /// The runtime creates it; with the place in config.json.
    Runtime(&'r str),
}

impl Recipe<'_> {
    /// Whether fsconfig(2) does not take all of it.
    fn is_too_long(&self) -> bool {
        let too_long = |text: &[u8]| text.len() >= LONGEST_VALUE;
        let value = |option: &String| too_long(option.split_once('=').map_or("", |(_, value)| value).as_bytes());
        too_long(self.source) || self.data.iter().any(value)
    }
}

impl Mounts<'_> {
    /// Makes a filesystem of the mount's type, detached.
    pub(super) fn filesystem(&mut self, p: &mut Program, planned: &Planned<'_>) -> Result<Slot> {
        match self.created(p, planned)? {
            What::Created(context) => Ok(self.mount_created(p, planned, context)),
            What::Made(slot) => Ok(slot),
            _ => Err(Error::internal(format!("{} was not created", planned.place))),
        }
    }

    /// Creates a filesystem of the mount's type; what mount(2) has to create is a mount at once.
    pub(super) fn created(&mut self, p: &mut Program, planned: &Planned<'_>) -> Result<What> {
        let typ = planned.typ();
        let options = &planned.options;
        let mut data = options.data.clone();
        if let Some(mode) = planned.seen.mode.filter(|_| typ == "tmpfs") {
            // As runc: a tmpfs takes over the mode of the directory that it covers; without one it is the kernel's, 1777.
            data.insert(0, format!("mode={mode:04o}"));
        }
        let source = planned.source.as_os_str().as_encoded_bytes();
        let mut flags = options.superblock.clone();
        flags.retain(|name| *name != IVERSION);
        let attributes = options.attributes().set & !later(planned);
        if attributes & RDONLY != 0 {
            // The filesystem as well as the mount, as mount(2) does: a disk may not be written to at all.
            flags.push("ro");
        }
        let recipe = Recipe { typ, source, flags: &flags, data: &data, attributes };
        if recipe.is_too_long() {
            if typ == "proc" && !matches!(self.shown, Shown::Own) {
                let text = "a procfs of a pid namespace that is joined takes no option of more than 255 bytes";
                return Err(Error::spec(planned.place.as_str(), text));
            }
            let slot = self.classic(p, &recipe, options.classic(attributes));
            self.is_made(planned, slot);
            Ok(What::Made(slot))
        } else {
            let by = match self.shown {
                Shown::Stop(namespace) if typ == "proc" => {
                    self.steps.push(MountStep { place: planned.place.clone(), work: MountWork::Procfs });
                    By::Context(foreign_context(p, namespace))
                }
                _ if planned.disk => By::Runtime(&planned.place),
                _ => By::Init,
            };
            Ok(What::Created(self.context(p, &recipe, by)))
        }
    }

    /// Makes the mount of what was created.
    pub(super) fn mount_created(&mut self, p: &mut Program, planned: &Planned<'_>, context: Slot) -> Slot {
        p.doing(format!("mount {}", planned.typ()));
        let slot = self.fsmount(p, context, planned.options.attributes().set & !later(planned));
        self.is_made(planned, slot);
        slot
    }

    fn is_made(&mut self, planned: &Planned<'_>, slot: Slot) {
        let attributes = planned.options.attributes().set;
        if attributes & later(planned) != 0 {
            self.readonly_later.push((planned.place.clone(), slot, attributes & !RDONLY));
        }
    }

    /// Makes it.
    pub(super) fn create(&mut self, p: &mut Program, recipe: &Recipe<'_>, by: By<'_>) -> Slot {
        let context = self.context(p, recipe, by);
        self.fsmount(p, context, recipe.attributes)
    }

    /// The context of a filesystem that is created.
    fn context(&mut self, p: &mut Program, recipe: &Recipe<'_>, by: By<'_>) -> Slot {
        let mut data = recipe.data.to_vec();
        data.extend(lsm::context(recipe.typ, self.label, &data));
        p.doing(what(recipe.typ, &data));
        let context = match by {
            By::Context(context) => context,
            By::Init | By::Runtime(_) => p.fsopen(recipe.typ).out(),
        };
        if let (Shown::Option(namespace), "proc") = (self.shown, recipe.typ) {
            p.fsconfig_set_fd(context, "pidns", namespace);
        }
        p.fsconfig_set_string(context, "source", recipe.source);
        configure(p, context, recipe.flags, &data);
        match by {
            By::Init | By::Context(_) => drop(p.fsconfig_cmd_create(context)),
            By::Runtime(place) => {
                self.steps.push(MountStep { place: place.to_owned(), work: MountWork::Disk });
                p.stop_with(Point::Mount, context);
            }
        }
        context
    }

    fn fsmount(&self, p: &mut Program, context: Slot, attributes: u64) -> Slot {
        // Where mount_setattr(2) is missing, the new calls do not know this attribute either; mount(2) does.
        let unknown = if self.setter.reaches_detached() { 0 } else { NOSYMFOLLOW };
        p.fsmount(context, attributes & !unknown).hint(Hint::Hidden).out()
    }

    /// mount(2), for options that are too long for fsconfig(2) (the layers of an overlay): onto the root that is about to be left,
    /// which nobody else sees, and as a copy away from there. Without a mount namespace of its own a container has only the place of
    /// its root filesystem. The working directory becomes the place.
    fn classic(&self, p: &mut Program, recipe: &Recipe<'_>, flags: u64) -> Slot {
        let root = self.request.spec.root().as_ref().map(|root| self.request.bundle.join(root.path()));
        let place = match root {
            Some(root) if !self.mount_namespace => p.text(root.as_os_str().as_encoded_bytes()),
            _ => p.text("/"),
        };
        let mut data = recipe.data.to_vec();
        data.extend(lsm::context(recipe.typ, self.label, &data));
        p.doing(what(recipe.typ, &data));
        let joined: Vec<String> = data.iter().map(|option| lsm::in_data(option)).collect();
        let below = p.openat(AT_FDCWD, place, O_PATH | O_DIRECTORY).out();
        p.mount(recipe.source, place, recipe.typ, flags, joined.join(","));
        let mounted = super::made::top(p, below);
        p.doing(what(recipe.typ, &data));
        let tree = p.open_tree(mounted, self.empty, OPEN_TREE_CLONE | AT_EMPTY_PATH).out();
        p.fchdir(mounted);
        p.umount_detach(".");
        p.fchdir(below);
        p.close(below);
        p.close(mounted);
        tree
    }

    /// linux.mountLabel for what takes it on its root only.
    pub(super) fn label_root(&self, p: &mut Program, planned: &Planned<'_>, tree: Slot) {
        let Some(label) = self.label.filter(|_| planned.typ() == "mqueue" && matches!(planned.what, What::Made(_)))
        else {
            return;
        };
        p.fchdir(tree);
        lsm::root_label(p, label);
        leave(p);
    }

    /// `iversion`, which only mount(2) sets: on what is attached, from its own root.
    pub(super) fn versions(&self, p: &mut Program, planned: &Planned<'_>, tree: Slot) {
        if !planned.options.superblock.contains(&IVERSION) || !matches!(planned.what, What::Made(_)) {
            return;
        }
        p.doing("set iversion");
        let flags = libc::MS_REMOUNT | planned.options.classic(planned.options.attributes().set & !later(planned));
        let dot = p.text(".");
        p.fchdir(tree);
        p.mount(NULL, dot, NULL, flags, NULL);
        leave(p);
    }
}

/// A context of procfs that the runtime sends, begun in the pid namespace of this descriptor.
fn foreign_context(p: &mut Program, namespace: Slot) -> Slot {
    p.doing("take a procfs that was begun in the pid namespace");
    p.stop_with(Point::Mount, namespace);
    let message = p.message(Report::terminal(), 1);
    p.recvmsg(p.report(), message);
    let context = p.descriptors_of(message)[0];
    // Whoever is there may have exchanged it. No other filesystem takes this option, whose value is what it is anyway.
    p.fsconfig_set_string(context, "hidepid", "0");
    context
}

/// The attributes that come when all is mounted: what is mounted below a tmpfs needs its directories first.
pub(super) fn later(planned: &Planned<'_>) -> u64 {
    if planned.typ() == "tmpfs" { RDONLY } else { 0 }
}

/// Back to the root.
pub(super) fn leave(p: &mut Program) {
    p.chdir("/");
}

/// Superblock flags and the filesystem's own options, for a context.
pub(super) fn configure(p: &mut Program, context: Slot, flags: &[&str], data: &[String]) {
    for flag in flags {
        p.fsconfig_set_flag(context, *flag);
    }
    for option in data {
        match option.split_once('=') {
            Some((key, value)) => p.fsconfig_set_string(context, key, value),
            None => p.fsconfig_set_flag(context, option),
        };
    }
}

fn what(typ: &str, data: &[String]) -> String {
    match data {
        [] => format!("mount {typ}"),
        _ => format!("mount {typ} with {:?}", data.join(",")),
    }
}
