//! The device program of a version 2 cgroup.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;

use super::files::open_dir;
use crate::error::{Error, Result};
use crate::plan::cgroup::DeviceProgram;
use crate::sys::bpf;

fn failed(call: &str) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::host(call, errno).at("linux.resources.devices")
}

fn open(dir: &Path) -> Result<OwnedFd> {
    open_dir(dir).map_err(|errno| Error::host(format!("open {}", dir.display()), errno))
}

fn load(program: &DeviceProgram) -> Result<OwnedFd> {
    bpf::load_device_program(&program.instructions).map_err(failed("bpf(BPF_PROG_LOAD, BPF_PROG_TYPE_CGROUP_DEVICE)"))
}

/// Attaches the program to a cgroup that has none of runb's.
pub(super) fn attach(program: &DeviceProgram) -> Result<()> {
    let loaded = load(program)?;
    bpf::attach_device_program(open(&program.dir)?, &loaded).map_err(failed("bpf(BPF_PROG_ATTACH, BPF_CGROUP_DEVICE)"))
}

/// Puts the program in the place of runb's own one, so that never both nor none decide: all programs of a cgroup must allow,
/// and beside one that allows less another changes nothing. Those of others, of systemd for instance, stay. Returns what was
/// there.
pub(super) fn replace(program: &DeviceProgram) -> Result<Replaced> {
    let loaded = load(program)?;
    let cgroup = open(&program.dir)?;
    let former = bpf::own_device_programs(&cgroup).map_err(failed("bpf(BPF_PROG_QUERY, BPF_CGROUP_DEVICE)"))?;
    put(&cgroup, &loaded, &former)?;
    Ok(Replaced { cgroup, loaded, former })
}

/// What [`replace`] has changed.
#[derive(Debug)]
pub(super) struct Replaced {
    cgroup: OwnedFd,
    loaded: OwnedFd,
    former: Vec<OwnedFd>,
}

impl Replaced {
    /// Takes it back.
    pub(super) fn undo(self) -> Result<()> {
        match self.former.split_first() {
            Some((first, _)) => put(&self.cgroup, first, std::slice::from_ref(&self.loaded)),
            None => detach(&self.cgroup, &self.loaded),
        }
    }
}

/// Attaches `program` in place of `former`. There is more than one only where a kernel before 5.6, which cannot replace, was
/// interrupted in between.
fn put(cgroup: &OwnedFd, program: &OwnedFd, former: &[OwnedFd]) -> Result<()> {
    let attach =
        || bpf::attach_device_program(cgroup, program).map_err(failed("bpf(BPF_PROG_ATTACH, BPF_CGROUP_DEVICE)"));
    let Some((first, more)) = former.split_first() else { return attach() };
    match bpf::replace_device_program(cgroup, program, first) {
        Ok(()) => more.iter().try_for_each(|one| detach(cgroup, one)),
        Err(Errno::EINVAL) => {
            attach()?;
            former.iter().try_for_each(|one| detach(cgroup, one))
        }
        Err(errno) => Err(failed("bpf(BPF_PROG_ATTACH, BPF_CGROUP_DEVICE, BPF_F_REPLACE)")(errno)),
    }
}

fn detach(cgroup: &OwnedFd, program: &OwnedFd) -> Result<()> {
    bpf::detach_device_program(cgroup, program).map_err(failed("bpf(BPF_PROG_DETACH, BPF_CGROUP_DEVICE)"))
}
