//! A bus that says what a test wants.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use zbus::wire::serialized::{Context, Data};
use zbus::wire::{LE, to_bytes};
use zbus::{DynamicType, ObjectPath, Signature, Variant};

use super::super::{MANAGER, PATH};

type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Variant<'a>)>);

/// A folder of the test's own.
pub fn folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("runb-bus-{}-{count}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder");
    folder
}

/// A socket with a thread that serves it.
pub struct Bus {
    pub path: PathBuf,
    folder: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Bus {
    /// Serves one connection.
    pub fn of(serve: impl FnOnce(Client) + Send + 'static) -> Self {
        let mut serve = Some(serve);
        Bus::serving(move |client| {
            serve.take().expect("one connection")(client);
            false
        })
    }

    /// Serves each connection.
    pub fn of_each(serve: impl Fn(Client) + Send + 'static) -> Self {
        Bus::serving(move |client| {
            serve(client);
            true
        })
    }

    fn serving(mut serve: impl FnMut(Client) -> bool + Send + 'static) -> Self {
        let folder = folder();
        let path = folder.join("bus");
        let listener = UnixListener::bind(&path).expect("a socket");
        let thread = std::thread::spawn(move || {
            loop {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut first = [0];
                // The end of the test says nothing.
                if !stream.read(&mut first).is_ok_and(|count| count == 1) {
                    return;
                }
                if !serve(Client { stream, serial: 100 }) {
                    return;
                }
            }
        });
        Bus { path, folder, thread: Some(thread) }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // For one that still waits.
        drop(UnixStream::connect(&self.path));
        let ended = self.thread.take().expect("a thread").join();
        let _ = std::fs::remove_dir_all(&self.folder);
        if !std::thread::panicking() {
            ended.expect("what the bus expects");
        }
    }
}

/// A call that came.
#[derive(Debug)]
pub struct Call {
    pub member: String,
    pub signature: String,
    serial: u32,
    bytes: Vec<u8>,
}

impl Call {
    /// Whether the text is in it.
    pub fn has(&self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// The other end of a connection.
pub struct Client {
    stream: UnixStream,
    serial: u32,
}

impl Client {
    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("a line");
            line.push(byte[0]);
        }
        String::from_utf8(line).expect("text").trim_end().to_owned()
    }

    /// Takes the authentication.
    pub fn accept(&mut self) {
        assert_eq!(self.line(), "AUTH EXTERNAL");
        self.send(b"DATA\r\n");
        assert_eq!(self.line(), "DATA");
        self.send(b"OK 0123456789abcdef0123456789abcdef\r\n");
        assert_eq!(self.line(), "BEGIN");
    }

    /// Does not take it, and goes.
    pub fn reject(&mut self) {
        self.send(b"REJECTED EXTERNAL\r\n");
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// The next call.
    pub fn next(&mut self) -> Call {
        let mut fixed = [0; 16];
        self.stream.read_exact(&mut fixed).expect("a call");
        let number = |at: usize| u32::from_le_bytes(fixed[at..at + 4].try_into().expect("four bytes")) as usize;
        let length = (16 + number(12)).next_multiple_of(8) + number(4);
        let mut bytes = fixed.to_vec();
        bytes.resize(length, 0);
        self.stream.read_exact(&mut bytes[16..]).expect("a whole call");
        let data = Data::new(&bytes[..], Context::new(LE, 0));
        let (header, _): (Header<'_>, usize) = data.deserialize().expect("a header");
        let field = |wanted: u8| header.6.iter().find(|(code, _)| *code == wanted).map(|(_, value)| value);
        let Some(Variant::Str(member)) = field(3) else { panic!("a call without a name") };
        let signature = match field(8) {
            Some(Variant::Signature(signature)) => signature.to_string_no_parens(),
            _ => String::new(),
        };
        Call { member: member.to_string(), signature, serial: header.5, bytes: bytes.clone() }
    }

    /// The next call, which is of this name.
    pub fn expect(&mut self, member: &str) -> Call {
        let call = self.next();
        assert_eq!(call.member, member);
        call
    }

    /// Nothing more comes.
    pub fn expect_end(&mut self) {
        assert_eq!(self.stream.read(&mut [0]).expect("the end"), 0);
    }

    /// Waits until the other end is closed.
    pub fn wait_for_end(&mut self) {
        let _ = self.stream.read_to_end(&mut Vec::new());
    }

    /// A message with the fields; a body of several types has none that it could be sent with: its types are put into a
    /// structure, and that is what the test's bus says.
    fn message<B: serde::Serialize + DynamicType>(&mut self, kind: u8, mut fields: Vec<(u8, Variant<'_>)>, body: &B) {
        self.serial += 1;
        let types = body.signature().to_string_no_parens();
        let bytes = to_bytes(Context::new(LE, 0), body).expect("a body");
        if !types.is_empty() {
            fields.push((8, Variant::from(types)));
        }
        let header: Header<'_> = (b'l', kind, 0, 1, bytes.len() as u32, self.serial, fields);
        let mut message = to_bytes(Context::new(LE, 0), &header).expect("a header").to_vec();
        as_signature(&mut message);
        message.resize(message.len().next_multiple_of(8), 0);
        message.extend_from_slice(&bytes);
        self.send(&message);
    }

    pub fn reply(&mut self, call: &Call) {
        self.message(2, vec![(5, call.serial.into())], &());
    }

    pub fn reply_text(&mut self, call: &Call, text: &str) {
        self.message(2, vec![(5, call.serial.into())], &(text,));
    }

    fn reply_variant(&mut self, call: &Call, value: impl Into<Variant<'static>>) {
        self.message(2, vec![(5, call.serial.into())], &(value.into(),));
    }

    pub fn reply_job(&mut self, call: &Call, job: u32) {
        self.message(2, vec![(5, call.serial.into())], &(job_path(job),));
    }

    pub fn refuse(&mut self, call: &Call, name: &str, text: &str) {
        self.message(3, vec![(4, name.into()), (5, call.serial.into())], &(text,));
    }

    fn signal<B: serde::Serialize + DynamicType>(&mut self, interface: &str, member: &str, body: &B) {
        let path = ObjectPath::try_from(PATH).expect("a path");
        self.message(4, vec![(1, path.into()), (2, interface.into()), (3, member.into())], body);
    }

    pub fn job_removed(&mut self, job: u32, unit: &str, result: &str) {
        self.signal(MANAGER, "JobRemoved", &(job, job_path(job), unit, result));
    }

    pub fn unit_removed(&mut self, unit: &str) {
        self.signal(MANAGER, "UnitRemoved", &(unit, job_path(0)));
    }

    pub fn owner_changed(&mut self, owner: &str) {
        self.signal("org.freedesktop.DBus", "NameOwnerChanged", &("org.freedesktop.systemd1", "", owner));
    }

    /// What systemd also says, and to everybody.
    pub fn noise(&mut self) {
        self.signal(
            "org.freedesktop.DBus.Properties",
            "PropertiesChanged",
            &(MANAGER, vec![("NJobs", Variant::from(1u32))]),
        );
    }

    /// Answers to the questions about a unit that is there.
    pub fn is_looked_at(&mut self, description: &'static str, state: &'static str, transient: bool) {
        let subscribe = self.expect("Subscribe");
        self.refuse(&subscribe, "org.freedesktop.systemd1.AlreadySubscribed", "once is enough");
        let get = self.expect("GetUnit");
        self.message(2, vec![(5, get.serial.into())], &(job_path(0),));
        for _ in 0..3 {
            let get = self.expect("Get");
            if get.has("ActiveState") {
                self.reply_variant(&get, state);
            } else if get.has("Description") {
                self.reply_variant(&get, description);
            } else {
                self.reply_variant(&get, transient);
            }
        }
    }

    /// Sends what `say` sends byte by byte.
    pub fn trickle(&mut self, say: impl FnOnce(&mut Client)) {
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        let mut aside = Client { stream: ours, serial: self.serial };
        say(&mut aside);
        self.serial = aside.serial;
        drop(aside);
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).expect("what was said");
        for byte in bytes {
            self.send(&[byte]);
            std::thread::yield_now();
        }
    }
}

fn job_path(job: u32) -> ObjectPath<'static> {
    ObjectPath::try_from(format!("{PATH}/job/{job}")).expect("a path")
}

/// The field of a body's types is a signature (`g`, with one byte of length), and was written as a text (`s`, with four): it is
/// the last field.
fn as_signature(message: &mut Vec<u8>) {
    const FIELD: &[u8] = &[8, 1, b's', 0];
    let Some(at) = (16..message.len()).rev().find(|at| message[*at..].starts_with(FIELD)) else { return };
    let text = message[at + 8..].to_vec();
    message.truncate(at);
    message.extend_from_slice(&[8, 1, b'g', 0, (text.len() - 1) as u8]);
    message.extend_from_slice(&text);
    let fields = (message.len() - 16) as u32;
    message[12..16].copy_from_slice(&fields.to_le_bytes());
}

#[test]
fn a_signature_is_what_the_driver_reads() {
    assert_eq!(Signature::try_from("us").expect("types").to_string_no_parens(), "us");
}
