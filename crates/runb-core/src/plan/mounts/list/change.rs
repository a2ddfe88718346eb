//! `remount`: what is mounted already is changed, as mount(8) does it.

use super::filesystem::configure;
use super::{Filesystem, Mounts, Planned};
use crate::error::{Error, Result};
use crate::plan::mounts::attributes::Change;
use crate::plan::mounts::options::{IVERSION, RDONLY, Reach};
use crate::plan::program::{Program, Slot};
use crate::survey::is_bind;

impl Mounts<'_> {
    /// Changes what is at the destination: with `bind` the mount alone, else its filesystem as well, which must be one that
    /// this configuration has made: any other is the host's.
    pub(super) fn change(&self, p: &mut Program, planned: &Planned<'_>) -> Result<Slot> {
        let options = &planned.options;
        let text = |text: &str| Err(Error::spec(planned.place.as_str(), text));
        let whole = !is_bind(planned.mount);
        let start = self.start(&planned.seen.path);
        let last = start.itself();
        if whole && last.is_none_or(|mounted| mounted.filesystem == Filesystem::Hosts) {
            return text("remount: no filesystem was made there; \"bind\" beside it changes the mount alone");
        }
        if last.is_none() && !self.setter.reaches_detached() {
            return text(
                "remount: of what this configuration has not mounted the attributes are not known, and without \
                mount_setattr(2) (Linux 5.12) all are set at once",
            );
        }
        if options.superblock.contains(&IVERSION) {
            return text("iversion is for a new filesystem");
        }
        let tree = last.map_or_else(|| super::target::existing(p, &start), |mounted| mounted.tree);
        p.doing("remount");
        if whole {
            let context = p.fspick(tree, self.empty).out();
            let mut flags = options.superblock.clone();
            let attributes = options.attributes();
            for (bits, name) in [(attributes.set, "ro"), (attributes.clear, "rw")] {
                if bits & RDONLY != 0 {
                    flags.push(name);
                }
            }
            configure(p, context, &flags, &options.data);
            p.fsconfig_cmd_reconfigure(context);
        }
        for (reach, attributes) in [(Reach::Top, options.own), (Reach::Below, options.recursive)] {
            if !attributes.is_empty() {
                let had = last.map_or(0, |mounted| mounted.attributes);
                self.setter.change(p, tree, reach, Change { attributes, had, ..Change::default() });
            }
        }
        Ok(tree)
    }
}
