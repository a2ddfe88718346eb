//! A filesystem that nobody may look into but one user, root included, as one of NFS with root squashing: a FUSE mount without
//! `allow_other` that shows a directory, read-only. Protocol: include/uapi/linux/fuse.h, version 7.38.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A mount that lasts until [`Squashed::end`].
pub struct Squashed {
    place: PathBuf,
    server: JoinHandle<()>,
}

impl Squashed {
    /// Shows `dir` at `place` to everybody, as root's, on a filesystem whose mounts may map ids: it has the kernel check the
    /// permissions.
    ///
    /// # Errors
    /// The machine has no FUSE.
    pub fn mount_mappable(dir: &Path, place: &Path) -> io::Result<Self> {
        Self::mount_with(dir, place, 0, ",default_permissions,allow_other", MAPPABLE)
    }

    /// Shows `dir` at `place` to the user `uid` with the group of the same number; all that is in it seems to be that user's.
    ///
    /// # Errors
    /// The machine has no FUSE.
    pub fn mount(dir: &Path, place: &Path, uid: u32) -> io::Result<Self> {
        Self::mount_with(dir, place, uid, "", 0)
    }

    fn mount_with(dir: &Path, place: &Path, uid: u32, options: &str, flags: u64) -> io::Result<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse")?;
        let data = format!("fd={},rootmode=40000,user_id={uid},group_id={uid}{options}", device.as_raw_fd());
        let data = CString::new(data).expect("no NUL");
        mount("squashed", place, "fuse", MountFlags::NODEV | MountFlags::NOSUID, Some(data.as_c_str()))?;
        let mut server = Server { device, uid, flags, nodes: BTreeMap::from([(1, dir.to_owned())]) };
        Ok(Squashed { place: place.to_owned(), server: thread::spawn(move || while server.answers() {}) })
    }

    /// Takes it away.
    pub fn end(self) {
        unmount(&self.place, UnmountFlags::empty()).expect("umount");
        self.server.join().expect("the server ends well");
    }
}

/// FUSE_INIT_EXT, that there are flags above 32, and FUSE_ALLOW_IDMAP.
const MAPPABLE: u64 = 1 << 30 | 1 << 40;

struct Server {
    device: File,
    uid: u32,
    flags: u64,
    nodes: BTreeMap<u64, PathBuf>,
}

const ENOSYS: i32 = 38;
const EIO: i32 = 5;

impl Server {
    /// Answers one request; false when the filesystem is unmounted.
    fn answers(&mut self) -> bool {
        let mut request = vec![0; 1 << 18];
        let Ok(length) = self.device.read(&mut request) else { return false };
        let request = &request[..length];
        let number = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().expect("eight bytes"));
        let opcode = u32::from_ne_bytes(request[4..8].try_into().expect("four bytes"));
        // FORGET, BATCH_FORGET, INTERRUPT: nobody waits for an answer.
        if [2, 42, 36].contains(&opcode) {
            return true;
        }
        let answer = self.answer(opcode, number(16), &request[40..]);
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(error) => (-error.raw_os_error().unwrap_or(EIO), Vec::new()),
        };
        let mut reply = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
        reply.extend(error.to_ne_bytes());
        reply.extend(number(8).to_ne_bytes());
        reply.extend(body);
        // A request that was interrupted takes no answer any more.
        let _ = self.device.write(&reply);
        true
    }

    fn answer(&mut self, opcode: u32, node: u64, body: &[u8]) -> io::Result<Vec<u8>> {
        let path = self.nodes.get(&node).cloned().unwrap_or_default();
        let number = |at: usize| u64::from_ne_bytes(body[at..at + 8].try_into().expect("eight bytes"));
        match opcode {
            // LOOKUP
            1 => self.lookup(&path, OsStr::from_bytes(&body[..body.len() - 1])),
            // GETATTR
            3 => Ok([longs(&[60, 0]), self.attributes(&path)?].concat()),
            // READLINK
            5 => Ok(fs::read_link(&path)?.into_os_string().into_vec()),
            // OPEN and OPENDIR need no handle; RELEASE, RELEASEDIR, FLUSH, ACCESS
            14 | 27 | 18 | 29 | 25 | 34 => {
                Ok(longs(&[0, 0])[..if [14, 27].contains(&opcode) { 16 } else { 0 }].to_vec())
            }
            // READ
            15 => {
                let mut data = vec![0; number(16) as u32 as usize];
                let length = File::open(&path)?.read_at(&mut data, number(8))?;
                data.truncate(length);
                Ok(data)
            }
            // STATFS
            17 => Ok(vec![0; 80]),
            // INIT
            26 => {
                let (low, high) = (self.flags as u32, (self.flags >> 32) as u32);
                Ok([ints(&[7, 38, 1 << 16, low, 0, 4096, 1, 0, high]), vec![0; 28]].concat())
            }
            // READDIR
            28 => names(&path, number(8) as usize, number(16) as u32 as usize),
            _ => Err(io::Error::from_raw_os_error(ENOSYS)),
        }
    }

    fn lookup(&mut self, dir: &Path, name: &OsStr) -> io::Result<Vec<u8>> {
        let path = dir.join(name);
        let attributes = self.attributes(&path)?;
        let number = path.symlink_metadata()?.ino() + 1;
        self.nodes.insert(number, path);
        Ok([longs(&[number, 0, 60, 60, 0]), attributes].concat())
    }

    /// struct fuse_attr.
    fn attributes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let meta = path.symlink_metadata()?;
        let times = [meta.atime() as u64, meta.mtime() as u64, meta.ctime() as u64];
        let numbers = ints(&[0, 0, 0, meta.mode(), meta.nlink() as u32, self.uid, self.uid, 0, 4096, 0]);
        Ok([longs(&[meta.ino(), meta.size(), meta.blocks()]), longs(&times), numbers].concat())
    }
}

/// struct fuse_dirent, from the entry `from` on, as many as fit.
fn names(dir: &Path, from: usize, size: usize) -> io::Result<Vec<u8>> {
    let mut data = Vec::new();
    for (i, entry) in fs::read_dir(dir)?.enumerate().skip(from) {
        let entry = entry?;
        let name: OsString = entry.file_name();
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
