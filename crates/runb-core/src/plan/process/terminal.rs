//! process.terminal: a pseudoterminal of the container's own devpts. Sources: config.md "Process", pts(4), ioctl_tty(2).
//!
//! Neither end is opened by a name that the image could have chosen: the master by the descriptor of the devpts that this
//! program mounted, the slave by TIOCGPTPEER from the master, and /dev/console covers what is there without following it
//! (CVE-2025-52565).

use std::path::Path;

use nix::libc;
use oci_spec::runtime::Process;
use runb_init::{Point, Report};

use crate::error::{Error, Result};
use crate::plan::mounts::list::{Mounts, resolve};
use crate::plan::program::{
    AT_EMPTY_PATH, AT_FDCWD, MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH, Message, O_NOCTTY, O_NOFOLLOW, O_PATH,
    O_RDWR, OPEN_TREE_CLONE, Program, RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, Slot,
};

/// Where init's terminal comes from.
const DEVPTS: &str = "/dev/pts";

/// A terminal that was opened.
#[derive(Clone, Copy, Debug)]
pub(in crate::plan) struct Terminal {
    slave: Slot,
}

/// Whether the process has a terminal.
pub(in crate::plan) fn wanted(process: &Process) -> bool {
    process.terminal() == Some(true)
}

/// Opens the terminal of init in the devpts of `mounts`, if process.terminal asks for it, and puts it on /dev/console.
///
/// # Errors
/// The configuration mounts no devpts at /dev/pts, or consoleSize is out of range.
pub(in crate::plan) fn open(p: &mut Program, process: &Process, mounts: &Mounts<'_>) -> Result<Option<Terminal>> {
    if !wanted(process) {
        return Ok(None);
    }
    let Some(devpts) = mounts.devpts(Path::new(DEVPTS)) else {
        return Err(Error::spec("process.terminal", "needs a devpts of the container's own at /dev/pts among mounts"));
    };
    p.section("process.terminal");
    p.doing("open the master of a new pseudoterminal");
    let name = p.text("ptmx");
    let message = p.message(Report::terminal(), 1);
    let master = p.descriptors_of(message)[0];
    p.openat(devpts, name, O_RDWR | O_NOCTTY | O_NOFOLLOW).into_slot(master);
    let terminal = pair(p, process, (message, master))?;
    console(p, terminal, mounts);
    Ok(Some(terminal))
}

/// Opens the terminal of a process that joins a container: the devpts at /dev/pts of the root and mount namespace that init
/// is in by then, which the container may have changed. The runtime looks at the master before it lets init go on.
///
/// # Errors
/// consoleSize is out of range.
pub(in crate::plan) fn open_joined(p: &mut Program, process: &Process) -> Result<Option<Terminal>> {
    if !wanted(process) {
        return Ok(None);
    }
    p.section("process.terminal");
    p.doing("open the master of a new pseudoterminal");
    let path = p.text("dev/pts/ptmx");
    let opened = resolve(p, AT_FDCWD.into(), path, O_RDWR | O_NOCTTY);
    let message = p.message(Report::terminal(), 1);
    let master = p.descriptors_of(message)[0];
    // To where the message takes it from.
    p.fcntl_dupfd_cloexec(opened).into_slot(master);
    p.close(opened);
    let terminal = pair(p, process, (message, master))?;
    p.stop(Point::Terminal);
    Ok(Some(terminal))
}

/// From the master to the standard descriptors. Init keeps no master: its end would not be seen otherwise.
fn pair(p: &mut Program, process: &Process, (message, master): (Message, Slot)) -> Result<Terminal> {
    p.doing("unlock the pseudoterminal");
    p.ioctl_tiocsptlck(master);
    p.doing("open the slave of the pseudoterminal");
    let slave = p.ioctl_tiocgptpeer(master, O_RDWR | O_NOCTTY).out();
    size(p, process, slave)?;
    let uid = process.user().uid();
    if uid != 0 {
        p.doing(format!("give the terminal to the user {uid}"));
        p.fchown(slave, uid);
    }
    p.doing("hand the terminal to the runtime");
    let report = p.report();
    p.sendmsg(report, message);
    p.close(master);
    p.doing("make the terminal the standard descriptors");
    for standard in 0..3 {
        p.dup2(slave, standard);
    }
    Ok(Terminal { slave })
}

/// process.consoleSize.
fn size(p: &mut Program, process: &Process, slave: Slot) -> Result<()> {
    let Some(size) = process.console_size() else { return Ok(()) };
    let cells = |field: &str, value: u64| {
        let wrong =
            |_| Error::spec(format!("process.consoleSize.{field}"), format!("{value} is more than {}", u16::MAX));
        u16::try_from(value).map_err(wrong)
    };
    let (rows, columns) = (cells("height", size.height())?, cells("width", size.width())?);
    p.section("process.consoleSize");
    p.ioctl_tiocswinsz(slave, rows, columns);
    p.section("process.terminal");
    Ok(())
}

/// Mounts the slave on /dev/console. What the image has there may be a link: it is not followed, and refused.
fn console(p: &mut Program, terminal: Terminal, mounts: &Mounts<'_>) {
    p.section("process.terminal");
    let (name, empty) = (p.text("console"), p.text(""));
    let dev = mounts.directory(p, Path::new("/dev"));
    p.doing("make /dev/console");
    p.mknodat(dev, name, libc::S_IFREG | 0o620, 0).tolerate(&[libc::EEXIST, libc::EROFS]);
    let resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    let target = p.openat2(dev, name, O_PATH, resolve).out();
    p.doing("mount the terminal on /dev/console");
    let tree = p.open_tree(terminal.slave, empty, OPEN_TREE_CLONE | AT_EMPTY_PATH).out();
    p.move_mount(tree, empty, target, empty, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/// Makes the terminal the controlling one; after setsid(2).
pub(in crate::plan) fn control(p: &mut Program) {
    p.section("process.terminal");
    p.doing("make it the controlling terminal");
    p.ioctl_tiocsctty(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joined_terminal_reaches_the_runtime_in_one_message_and_init_keeps_no_master() {
        let whole = serde_json::json!({"user": {"uid": 5, "gid": 5}, "cwd": "/", "args": ["sh"], "terminal": true,
            "consoleSize": {"height": 25, "width": 80}});
        let process: Process = serde_json::from_value(whole).expect("a process");
        let mut p = Program::new(3);
        open_joined(&mut p, &process).expect("planned").expect("a terminal");
        let calls: Vec<String> = (0..p.calls().len()).map(|index| p.describe(index)).collect();
        let position = |text: &str| calls.iter().position(|call| call.contains(text)).expect(text);
        let (peer, sent) = (position("TIOCGPTPEER"), position("sendmsg(3, "));
        // The slot of the master lies in the control data of the message.
        let master = p.calls()[peer].args[0];
        let word = |address: u64, index: u64| {
            let bytes = p.bytes_at(address + index * 8, 8).expect("in the program");
            u64::from_ne_bytes(bytes.try_into().expect("eight bytes"))
        };
        let control = word(p.calls()[sent].args[1], 4);
        assert_eq!((master, word(control, 0), word(control, 1)), (control + 16, 20, 1 << 32 | 1));
        assert!(peer < sent && calls[sent + 1].starts_with("close("), "{calls:#?}");
        assert_eq!(p.calls()[sent + 1].args[0], master);
        assert!(
            calls[sent + 2..].iter().zip(0..3).all(|(call, i)| call.starts_with(&format!("dup3($2, {i}"))),
            "{calls:#?}"
        );
        assert_eq!(p.bytes_at(p.calls()[position("TIOCSWINSZ")].args[2], 4), Some(&[25, 0, 80, 0][..]));
    }

    #[test]
    fn a_console_that_is_too_large_is_refused_by_name() {
        let whole = serde_json::json!({"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["sh"], "terminal": true,
            "consoleSize": {"height": 25, "width": 70000}});
        let process: Process = serde_json::from_value(whole).expect("a process");
        let error = open_joined(&mut Program::new(3), &process).expect_err("it is refused");
        assert_eq!(error.to_string(), "process.consoleSize.width: 70000 is more than 65535");
    }
}
