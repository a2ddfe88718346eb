//! A filesystem that behaves like resctrl, as no machine of these tests has it: a FUSE mount of the type `fuse.resctrl` over a
//! directory. A group is there with all of its files as soon as it is made, goes with all of them, takes a process into its
//! `tasks` by number (0 is who writes), and checks what is written to its `schemata`.
//!
//! What it cannot show: that a cache or the bandwidth is in fact divided, that a child of a process in a group is in it, and the
//! kernel's limits on the number of groups. Protocol: include/uapi/linux/fuse.h, version 7.31.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// The schemata of a new group: two caches with a mask of eleven bits each.
const SCHEMATA: &str = "    MB:0=100;1=100\n    L3:0=7ff;1=7ff\n";

/// A mount that lasts until [`Resctrl::end`].
pub struct Resctrl {
    place: PathBuf,
    backing: PathBuf,
    server: JoinHandle<()>,
}

impl Resctrl {
    /// Mounts it at `place`; what it holds lies in `backing`.
    ///
    /// # Errors
    /// The machine has no FUSE.
    pub fn mount(backing: &Path, place: &Path) -> io::Result<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse")?;
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let data = CString::new(data).expect("no NUL");
        mount("resctrl", place, "fuse.resctrl", MountFlags::NODEV | MountFlags::NOSUID, Some(data.as_c_str()))?;
        populate(backing, Kind::Control)?;
        for (dir, files) in INFO {
            fs::create_dir_all(backing.join(dir))?;
            for (file, text) in files {
                fs::write(backing.join(dir).join(file), text)?;
            }
        }
        let mut server = Server { device, root: backing.to_owned(), nodes: BTreeMap::from([(1, backing.to_owned())]) };
        let thread = thread::spawn(move || while server.answers() {});
        Ok(Resctrl { place: place.to_owned(), backing: backing.to_owned(), server: thread })
    }

    /// The processes of a group, by its path below the filesystem.
    pub fn tasks(&self, group: &str) -> Vec<i32> {
        let text = fs::read_to_string(self.backing.join(group).join("tasks")).expect("tasks");
        text.lines().map(|line| line.parse().expect("a number")).collect()
    }

    /// The schemata of a group.
    pub fn schemata(&self, group: &str) -> String {
        fs::read_to_string(self.backing.join(group).join("schemata")).expect("schemata")
    }

    /// Whether there is such a group.
    pub fn has(&self, group: &str) -> bool {
        self.backing.join(group).is_dir()
    }

    /// Makes a group as an administrator does.
    pub fn make(&self, group: &str) {
        fs::create_dir(self.place.join(group)).expect("mkdir");
    }

    /// Writes to a file of it as an administrator does.
    pub fn write(&self, file: &str, text: &str) {
        let mut open = File::options().write(true).open(self.place.join(file)).expect("open");
        open.write_all(text.as_bytes()).expect("write");
    }

    /// Takes it away.
    pub fn end(self) {
        unmount(&self.place, UnmountFlags::empty()).expect("umount");
        self.server.join().expect("the server ends well");
    }
}

type Files = &'static [(&'static str, &'static str)];

const INFO: [(&str, Files); 4] = [
    ("info", &[("last_cmd_status", "ok\n")]),
    ("info/L3", &[("cbm_mask", "7ff\n"), ("min_cbm_bits", "1\n"), ("num_closids", "16\n")]),
    (
        "info/MB",
        &[("bandwidth_gran", "10\n"), ("delay_linear", "1\n"), ("min_bandwidth", "10\n"), ("num_closids", "8\n")],
    ),
    ("info/L3_MON", &[("mon_features", "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\n"), ("num_rmids", "32\n")]),
];

/// What a group is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Control,
    Monitoring,
}

/// Fills a group that was made.
fn populate(group: &Path, kind: Kind) -> io::Result<()> {
    fs::write(group.join("tasks"), "")?;
    for (i, domain) in ["mon_L3_00", "mon_L3_01"].iter().enumerate() {
        let dir = group.join("mon_data").join(domain);
        fs::create_dir_all(&dir)?;
        for (file, number) in [("llc_occupancy", 4096), ("mbm_total_bytes", 9000), ("mbm_local_bytes", 5000)] {
            fs::write(dir.join(file), format!("{}\n", number + i))?;
        }
    }
    if kind == Kind::Control {
        fs::write(group.join("schemata"), SCHEMATA)?;
        fs::create_dir(group.join("mon_groups"))?;
    }
    Ok(())
}

/// A process that is gone is in no group any more.
fn forget_the_dead(file: &Path) -> io::Result<()> {
    if !file.ends_with("tasks") {
        return Ok(());
    }
    let tasks = fs::read_to_string(file)?;
    let alive = tasks.lines().filter(|pid| Path::new("/proc").join(pid).exists());
    fs::write(file, alive.map(|pid| format!("{pid}\n")).collect::<String>())
}

struct Server {
    device: File,
    root: PathBuf,
    nodes: BTreeMap<u64, PathBuf>,
}

const ENOSYS: i32 = 38;
const EIO: i32 = 5;
const EINVAL: i32 = 22;
const EPERM: i32 = 1;

impl Server {
    /// Answers one request; false when the filesystem is unmounted.
    fn answers(&mut self) -> bool {
        let mut request = vec![0; 1 << 18];
        let Ok(length) = self.device.read(&mut request) else { return false };
        let request = &request[..length];
        let long = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().expect("eight bytes"));
        let int = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().expect("four bytes"));
        let opcode = int(4);
        // FORGET, BATCH_FORGET, INTERRUPT: nobody waits for an answer.
        if [2, 42, 36].contains(&opcode) {
            return true;
        }
        let (error, body) = match self.answer(opcode, long(16), int(32), &request[40..]) {
            Ok(body) => (0, body),
            Err(error) => (-error.raw_os_error().unwrap_or(EIO), Vec::new()),
        };
        let mut reply = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
        reply.extend(error.to_ne_bytes());
        reply.extend(long(8).to_ne_bytes());
        reply.extend(body);
        let _ = self.device.write(&reply);
        true
    }

    fn answer(&mut self, opcode: u32, node: u64, writer: u32, body: &[u8]) -> io::Result<Vec<u8>> {
        let path = self.nodes.get(&node).cloned().unwrap_or_default();
        let long = |at: usize| u64::from_ne_bytes(body[at..at + 8].try_into().expect("eight bytes"));
        let int = |at: usize| u32::from_ne_bytes(body[at..at + 4].try_into().expect("four bytes"));
        let name = |from: usize| OsStr::from_bytes(&body[from..body.len() - 1]);
        match opcode {
            // LOOKUP
            1 => self.entry(&path.join(name(0))),
            // GETATTR, SETATTR: a file of the kernel's has no length that would be cut.
            3 | 4 => Ok([longs(&[0, 0]), attributes(&path)?].concat()),
            // MKDIR: mode and umask come first.
            9 => {
                let made = path.join(name(8));
                let kind = if path.ends_with("mon_groups") { Kind::Monitoring } else { Kind::Control };
                if kind == Kind::Control && path != self.root {
                    return Err(io::Error::from_raw_os_error(EPERM));
                }
                fs::create_dir(&made)?;
                populate(&made, kind)?;
                self.entry(&made)
            }
            // RMDIR takes a group with all of its files, and lets its processes go to the root's.
            11 => fs::remove_dir_all(path.join(name(0))).map(|()| Vec::new()),
            // OPEN with FOPEN_DIRECT_IO, as nothing is to be remembered; OPENDIR; RELEASE, RELEASEDIR, FLUSH, ACCESS.
            14 => Ok([longs(&[0]), ints(&[1, 0])].concat()),
            27 => Ok(longs(&[0, 0])),
            18 | 29 | 25 | 34 => Ok(Vec::new()),
            // READ
            15 => {
                forget_the_dead(&path)?;
                let mut data = vec![0; int(16) as usize];
                let length = File::open(&path)?.read_at(&mut data, long(8))?;
                data.truncate(length);
                Ok(data)
            }
            // WRITE: 40 bytes come before the text.
            16 => {
                let text = String::from_utf8_lossy(&body[40..40 + int(16) as usize]).into_owned();
                let taken = self.take(&path, writer, &text);
                let words = taken.as_ref().err().map_or("ok\n".to_owned(), |words| format!("{words}\n"));
                fs::write(self.root.join("info/last_cmd_status"), words)?;
                taken.map(|()| ints(&[int(16), 0])).map_err(|_| io::Error::from_raw_os_error(EINVAL))
            }
            // STATFS
            17 => Ok(vec![0; 80]),
            // INIT
            26 => Ok([ints(&[7, 31, 1 << 16, 0, 0, 4096, 1]), vec![0; 36]].concat()),
            // READDIR
            28 => names(&path, long(8) as usize, int(16) as usize),
            _ => Err(io::Error::from_raw_os_error(ENOSYS)),
        }
    }

    /// What is written to `tasks` or `schemata`, or the kernel's words of why not.
    fn take(&self, file: &Path, writer: u32, text: &str) -> Result<(), String> {
        let write = |file: &Path, text: String| fs::write(file, text).map_err(|e| e.to_string());
        if file.ends_with("tasks") {
            let number: u32 = text.trim().parse().map_err(|_| "Task list parsing error".to_owned())?;
            let mut tasks = fs::read_to_string(file).map_err(|e| e.to_string())?;
            tasks += &format!("{}\n", if number == 0 { writer } else { number });
            return write(file, tasks);
        }
        let mut lines: Vec<String> =
            fs::read_to_string(file).map_err(|e| e.to_string())?.lines().map(str::to_owned).collect();
        for line in text.lines() {
            let (resource, parts) = line.split_once(':').ok_or("Missing ':'")?;
            let found = lines.iter_mut().find(|old| old.trim().starts_with(&format!("{}:", resource.trim())));
            let Some(old) = found else { return Err(format!("Unknown or unsupported resource name '{resource}'")) };
            for part in parts.split(';') {
                let (cache, value) = part.split_once('=').ok_or("Missing '=' or non-numeric domain")?;
                if !["0", "1"].contains(&cache.trim()) || value.chars().any(|c| !c.is_ascii_hexdigit()) {
                    return Err(format!("Non-hex character in the mask {value}"));
                }
                let (head, tail) = old.split_once(&format!("{}=", cache.trim())).ok_or("no such domain")?;
                let rest = tail.find(';').map_or("", |at| &tail[at..]);
                *old = format!("{head}{}={value}{rest}", cache.trim());
            }
        }
        write(file, lines.join("\n") + "\n")
    }

    fn entry(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let attributes = attributes(path)?;
        let number = path.symlink_metadata()?.ino() + 1;
        self.nodes.insert(number, path.to_owned());
        // Nothing is remembered: neither the name nor the attributes.
        Ok([longs(&[number, 0, 0, 0, 0]), attributes].concat())
    }
}

/// struct fuse_attr.
fn attributes(path: &Path) -> io::Result<Vec<u8>> {
    let meta = path.symlink_metadata()?;
    let times = [meta.atime() as u64, meta.mtime() as u64, meta.ctime() as u64];
    let numbers = ints(&[0, 0, 0, meta.mode(), meta.nlink() as u32, 0, 0, 0, 4096, 0]);
    Ok([longs(&[meta.ino(), meta.size(), meta.blocks()]), longs(&times), numbers].concat())
}

/// struct fuse_dirent, from the entry `from` on, as many as fit.
fn names(dir: &Path, from: usize, size: usize) -> io::Result<Vec<u8>> {
    let mut data = Vec::new();
    for (i, entry) in fs::read_dir(dir)?.enumerate().skip(from) {
        let entry = entry?;
        let name = entry.file_name();
        let padded = name.len().div_ceil(8) * 8;
        if data.len() + 24 + padded > size {
            break;
        }
        data.extend(longs(&[entry.ino(), i as u64 + 1]));
        data.extend(ints(&[name.len() as u32, 0]));
        data.extend(name.as_bytes());
        data.resize(data.len() + padded - name.len(), 0);
    }
    Ok(data)
}

fn longs(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

fn ints(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}
