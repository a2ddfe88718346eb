//! The files of a log, the oldest first: what it was rotated to by runb or logrotate, compressed or not, then the log itself. They
//! are read line by line, however long they are.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use flate2::read::MultiGzDecoder;
use runb_core::input;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::record::entry::LINE;

/// What is read at once, in bytes.
const BUFFER: usize = 256 << 10;

/// The files that a log has, the oldest first.
///
/// # Errors
/// Its folder cannot be read.
pub fn generations(path: &Path) -> Result<Vec<PathBuf>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let entries = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in entries.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        if file.strip_prefix(&name).is_some_and(is_rotated) {
            let modified = entry.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            files.push((modified, entry.path()));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, file)| file).chain([path.to_owned()]).collect())
}

/// `.1`, `.2.gz`; with logrotate's dateext `-20261122`, `-20261122-1795478400.gz`.
fn is_rotated(rest: &str) -> bool {
    let rest = rest.strip_suffix(".gz").or_else(|| rest.strip_suffix(".zst")).unwrap_or(rest);
    let number = rest.strip_prefix('.').or_else(|| rest.strip_prefix('-'));
    number.is_some_and(|number| {
        number.starts_with(|c: char| c.is_ascii_digit()) && number.bytes().all(|b| b.is_ascii_digit() || b == b'-')
    })
}

/// Opens a file of a log; what is in it is found by its first bytes, not by its name.
///
/// # Errors
/// It cannot be read.
pub fn open(path: &Path) -> Result<Box<dyn Read>> {
    let what = || format!("read {}", path.display());
    if path == Path::new("-") {
        return decompressed(io::stdin()).with_context(what);
    }
    decompressed(input::open(path).with_context(what)?).with_context(what)
}

fn decompressed(file: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    let mut file = BufReader::with_capacity(BUFFER, file);
    Ok(match file.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(file)),
        // Any of the first frame's magic numbers: pzstd(1) begins with one that is to be skipped.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(Zstd { file, decoder: FrameDecoder::new() })
        }
        _ => Box::new(file),
    })
}

/// What zstd has compressed, frame by frame: zstd(1) appends them to one another, and the decoder knows one.
struct Zstd<R> {
    file: BufReader<R>,
    decoder: FrameDecoder,
}

impl<R: Read> Zstd<R> {
    /// Goes to the next frame that has something in it, if there is one.
    fn next(&mut self) -> io::Result<bool> {
        while !self.file.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.file) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    io::copy(&mut self.file.by_ref().take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.decoder.can_collect() == 0 {
            if self.decoder.is_finished() && !self.next()? {
                return Ok(0);
            }
            let enough = BlockDecodingStrategy::UptoBytes(buffer.len());
            self.decoder.decode_blocks(&mut self.file, enough).map_err(io::Error::other)?;
        }
        self.decoder.read(buffer)
    }
}

/// Calls `take` with each line of a file, its newline left out, as long as it says so. A line that is longer than any of runb's comes in
/// pieces, none of which is one.
///
/// # Errors
/// It cannot be read.
pub fn lines(path: &Path, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut file = BufReader::with_capacity(BUFFER, open(path)?);
    let mut rest = Vec::new();
    loop {
        let buffer = match file.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        if buffer.is_empty() {
            return if rest.is_empty() { Ok(()) } else { take(&rest) };
        }
        let mut at = 0;
        for end in memchr::memchr_iter(b'\n', buffer) {
            match rest.is_empty() {
                true => take(&buffer[at..end])?,
                false => {
                    rest.extend_from_slice(&buffer[at..end]);
                    take(&rest)?;
                    rest.clear();
                }
            }
            at = end + 1;
        }
        rest.extend_from_slice(&buffer[at..]);
        let length = buffer.len();
        file.consume(length);
        if rest.len() > LINE {
            take(&rest)?;
            rest.clear();
        }
    }
}

/// What was written to a file since it was last asked.
pub struct Tail {
    file: File,
    rest: Vec<u8>,
}

impl Tail {
    /// From the beginning, or from the end.
    pub fn new(file: File) -> Self {
        Tail { file, rest: Vec::new() }
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Calls `take` with each whole line that there is by now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn lines(&mut self, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = self.file.read(&mut buffer).context("read the invocation log")?;
            if length == 0 {
                return Ok(());
            }
            self.rest.extend_from_slice(&buffer[..length]);
            let mut at = 0;
            for end in memchr::memchr_iter(b'\n', &self.rest) {
                take(&self.rest[at..end])?;
                at = end + 1;
            }
            self.rest.drain(..at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_names_of_rotated_files_are_told_from_others() {
        for name in [".1", ".12", ".1.gz", ".3.zst", "-20261122", "-20261122-1795478400.gz"] {
            assert!(is_rotated(name), "{name}");
        }
        for name in ["", ".gz", ".old", ".configs", "-x", ".1.bak", "x.1"] {
            assert!(!is_rotated(name), "{name}");
        }
    }

    #[test]
    fn generations_come_by_their_age_and_are_read_whatever_their_form() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("runb.log");
        let mut zipped = flate2::write::GzEncoder::new(
            File::create(folder.path().join("runb.log.2.gz")).unwrap(),
            flate2::Compression::fast(),
        );
        zipped.write_all(b"oldest\nold\n").unwrap();
        zipped.finish().unwrap();
        let frame = |text: &'static str| {
            ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest)
        };
        // As pzstd(1) writes it: before each frame one that says how long it is.
        let size = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 9, 9, 9, 9].to_vec();
        let frames = [size.clone(), frame("newer\nne"), size, frame("wer still\n")].concat();
        std::fs::write(folder.path().join("runb.log.1.zst"), frames).unwrap();
        std::fs::write(&log, "newest\nbegun").unwrap();
        let old = |name: &str, seconds| {
            let file = File::options().append(true).open(folder.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - std::time::Duration::from_secs(seconds)).unwrap();
        };
        old("runb.log.2.gz", 20);
        old("runb.log.1.zst", 10);
        let mut all = Vec::new();
        for file in generations(&log).unwrap() {
            lines(&file, |line| {
                all.push(String::from_utf8_lossy(line).into_owned());
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(all, ["oldest", "old", "newer", "newer still", "newest", "begun"]);
    }
}
