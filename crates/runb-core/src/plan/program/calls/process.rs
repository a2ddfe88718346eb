//! What a process is: its namespaces, ids, rights, limits, and what it executes.

use nix::libc;

use crate::plan::program::values::{NULL, Number, Strings, Text};
use crate::plan::program::{Added, Hint, Mark, Program};

impl Program {
    /// setns(2).
    pub(crate) fn setns(&mut self, fd: impl Into<Number>, namespaces: u64) -> Added<'_> {
        self.call(libc::SYS_setns, &[fd.into().into(), namespaces.into()])
    }

    /// pidfd_send_signal(2); 0 is none, and asks whether the process lives.
    pub(crate) fn pidfd_send_signal(&mut self, pidfd: impl Into<Number>, signal: i32) -> Added<'_> {
        self.call(libc::SYS_pidfd_send_signal, &[pidfd.into().into(), signal.into(), 0.into(), 0.into()])
    }

    /// unshare(2).
    pub(crate) fn unshare(&mut self, namespaces: u64) -> Added<'_> {
        let user = namespaces & libc::CLONE_NEWUSER as u64 != 0;
        let call = self.call(libc::SYS_unshare, &[namespaces.into()]);
        if user { call.hint(Hint::UserNamespace) } else { call }
    }

    /// sethostname(2).
    pub(crate) fn sethostname(&mut self, name: &str) -> Added<'_> {
        let text = self.text(name);
        self.call(libc::SYS_sethostname, &[text.into(), name.len().into()])
    }

    /// setdomainname(2).
    pub(crate) fn setdomainname(&mut self, name: &str) -> Added<'_> {
        let text = self.text(name);
        self.call(libc::SYS_setdomainname, &[text.into(), name.len().into()])
    }

    fn prctl(&mut self, operation: i32, first: u64, second: u64) -> Added<'_> {
        self.call(libc::SYS_prctl, &[operation.into(), first.into(), second.into(), 0.into(), 0.into()])
    }

    /// prctl(2), PR_SET_DUMPABLE with SUID_DUMP_DISABLE.
    pub(crate) fn prctl_set_undumpable(&mut self) -> Added<'_> {
        self.prctl(libc::PR_SET_DUMPABLE, 0, 0)
    }

    /// prctl(2), PR_SET_DUMPABLE with SUID_DUMP_USER.
    pub(crate) fn prctl_set_dumpable(&mut self) -> Added<'_> {
        self.prctl(libc::PR_SET_DUMPABLE, 1, 0)
    }

    /// prctl(2), PR_SET_NAME.
    pub(crate) fn prctl_set_name(&mut self, name: impl Text) -> Added<'_> {
        let name = name.lies(self);
        self.prctl(libc::PR_SET_NAME, name.address(), 0)
    }

    /// prctl(2), PR_SET_KEEPCAPS.
    pub(crate) fn prctl_set_keepcaps(&mut self) -> Added<'_> {
        self.prctl(libc::PR_SET_KEEPCAPS, 1, 0)
    }

    /// prctl(2), PR_CAPBSET_DROP.
    pub(crate) fn prctl_capbset_drop(&mut self, capability: u8) -> Added<'_> {
        self.prctl(libc::PR_CAPBSET_DROP, capability.into(), 0)
    }

    /// prctl(2), PR_CAP_AMBIENT_RAISE.
    pub(crate) fn prctl_cap_ambient_raise(&mut self, capability: u8) -> Added<'_> {
        self.prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, capability.into())
    }

    /// prctl(2), PR_SET_NO_NEW_PRIVS.
    pub(crate) fn prctl_set_no_new_privs(&mut self) -> Added<'_> {
        self.prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
    }

    /// setresuid(2), all three.
    pub(crate) fn setresuid(&mut self, uid: u32) -> Added<'_> {
        self.call(libc::SYS_setresuid, &[uid.into(), uid.into(), uid.into()])
    }

    /// setresgid(2), all three.
    pub(crate) fn setresgid(&mut self, gid: u32) -> Added<'_> {
        self.call(libc::SYS_setresgid, &[gid.into(), gid.into(), gid.into()])
    }

    /// setgroups(2).
    pub(crate) fn setgroups(&mut self, gids: &[u32]) -> Added<'_> {
        let list: Vec<u8> = gids.iter().flat_map(|gid| gid.to_ne_bytes()).collect();
        let list = self.bytes(&list);
        self.call(libc::SYS_setgroups, &[gids.len().into(), list.into()])
    }

    /// capset(2).
    pub(crate) fn capset(&mut self, effective: u64, permitted: u64, inheritable: u64) -> Added<'_> {
        // struct __user_cap_header_struct with version 3, then two of __user_cap_data_struct.
        let header = self.bytes(&[0x2008_0522u32.to_ne_bytes(), 0u32.to_ne_bytes()].concat());
        let sets = [effective, permitted, inheritable];
        let low = sets.map(|set| (set as u32).to_ne_bytes());
        let high = sets.map(|set| ((set >> 32) as u32).to_ne_bytes());
        let data = self.bytes(&[low.concat(), high.concat()].concat());
        self.call(libc::SYS_capset, &[header.into(), data.into()])
    }

    /// prlimit(2), of the process itself.
    pub(crate) fn prlimit(&mut self, resource: u32, soft: u64, hard: u64) -> Added<'_> {
        let limit = self.longs(&[soft, hard]);
        let args = [0.into(), resource.into(), limit.into(), 0.into()];
        self.call(libc::SYS_prlimit64, &args).hint(Hint::HardLimit(resource))
    }

    /// umask(2).
    pub(crate) fn umask(&mut self, mask: impl Into<Number>) -> Added<'_> {
        self.call(libc::SYS_umask, &[mask.into().into()])
    }

    /// setsid(2).
    pub(crate) fn setsid(&mut self) -> Added<'_> {
        self.call(libc::SYS_setsid, &[])
    }

    /// keyctl(2), KEYCTL_JOIN_SESSION_KEYRING.
    pub(crate) fn keyctl_join_session_keyring(&mut self, name: impl Text) -> Added<'_> {
        let name = name.lies(self);
        self.call(libc::SYS_keyctl, &[libc::KEYCTL_JOIN_SESSION_KEYRING.into(), name.into()])
    }

    /// keyctl(2), KEYCTL_SETPERM.
    pub(crate) fn keyctl_setperm(&mut self, key: impl Into<Number>, permissions: u32) -> Added<'_> {
        self.call(libc::SYS_keyctl, &[libc::KEYCTL_SETPERM.into(), key.into().into(), permissions.into()])
    }

    /// personality(2).
    pub(crate) fn personality(&mut self, persona: u32) -> Added<'_> {
        self.call(libc::SYS_personality, &[persona.into()])
    }

    /// set_mempolicy(2); the words of the mask of nodes, or none.
    pub(crate) fn set_mempolicy(&mut self, mode: i32, nodes: &[u64]) -> Added<'_> {
        // The kernel takes one less for the number of bits (get_nodes in mm/mempolicy.c).
        let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
        let nodes = if nodes.is_empty() { NULL } else { self.longs(nodes) };
        self.call(libc::SYS_set_mempolicy, &[mode.into(), nodes.into(), bits.into()])
    }

    /// ioprio_set(2), of the process itself; `priority` is IOPRIO_PRIO_VALUE.
    pub(crate) fn ioprio_set(&mut self, priority: u32) -> Added<'_> {
        const IOPRIO_WHO_PROCESS: i32 = 1;
        self.call(libc::SYS_ioprio_set, &[IOPRIO_WHO_PROCESS.into(), 0.into(), priority.into()])
    }

    /// sched_setattr(2), of the process itself; `attr` is a struct sched_attr.
    pub(crate) fn sched_setattr(&mut self, attr: &[u8]) -> Added<'_> {
        let attr = self.bytes(attr);
        self.call(libc::SYS_sched_setattr, &[0.into(), attr.into(), 0.into()])
    }

    /// sched_setaffinity(2), of the process itself.
    pub(crate) fn sched_setaffinity(&mut self, mask: &[u64]) -> Added<'_> {
        let (length, mask) = (mask.len() * 8, self.longs(mask));
        self.call(libc::SYS_sched_setaffinity, &[0.into(), length.into(), mask.into()])
    }

    /// seccomp(2), SECCOMP_SET_MODE_FILTER.
    pub(crate) fn seccomp_set_mode_filter(&mut self, flags: u64, instructions: &[u64]) -> Added<'_> {
        let code = self.longs(instructions);
        // struct sock_fprog: a length of 16 bits, then a pointer.
        let program = self.longs(&[instructions.len() as u64, code.address()]);
        let args = [libc::SECCOMP_SET_MODE_FILTER.into(), flags.into(), program.into()];
        self.call(libc::SYS_seccomp, &args).mark(Mark::Filter)
    }

    /// rt_sigaction(2) and rt_sigprocmask(2): these signals as the kernel has them at first, and none blocked.
    pub(crate) fn reset_signals(&mut self, signals: &[i32]) {
        let zeroes = self.longs(&[0; 4]);
        for signal in signals {
            self.call(libc::SYS_rt_sigaction, &[(*signal).into(), zeroes.into(), 0.into(), 8.into()]);
        }
        self.call(libc::SYS_rt_sigprocmask, &[libc::SIG_SETMASK.into(), zeroes.into(), 0.into(), 8.into()]);
    }

    /// rt_sigaction(2): init ends by these signals, with 128 and the number as its exit code, until it executes. Where it is
    /// the first process of a pid namespace, the kernel drops them otherwise.
    pub(crate) fn end_by(&mut self, signals: impl Iterator<Item = i32>) {
        // The kernel's struct sigaction: handler, flags, restorer, mask. The handler does not return, so that where it would
        // return to does not matter; x86-64 wants it to be told.
        const SA_RESTORER: u64 = 0x0400_0000;
        let handler = runb_init::image::END as u64;
        let action = self.longs(&[handler, SA_RESTORER, handler, 0]);
        for signal in signals {
            self.call(libc::SYS_rt_sigaction, &[signal.into(), action.into(), 0.into(), 8.into()]);
        }
    }

    /// execve(2).
    pub(crate) fn execve(&mut self, path: impl Text, argv: Strings, envp: Strings) -> Added<'_> {
        let path = path.lies(self);
        self.call(libc::SYS_execve, &[path.into(), argv.into(), envp.into()])
    }
}
