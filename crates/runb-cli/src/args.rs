//! Every verb and flag, as typed values. The names are runc's. Only the definitions of the verb that was called are
//! built, and none for the plain lines of the verbs of a container's life ([`quick`]).

mod quick;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};

use crate::argv::{self, Order};

/// Text or JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// A table or JSON (`list`, `ps`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Listing {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Whether a cgroup that cannot be made or limited for want of permission stops a launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rootless {
    /// As the caller's own ids say.
    #[default]
    Auto,
    /// It does not.
    True,
    /// It does.
    False,
}

fn rootless(text: &str) -> Result<Rootless, String> {
    match (text, argv::boolean(text)) {
        ("auto", _) => Ok(Rootless::Auto),
        (_, Some(true)) => Ok(Rootless::True),
        (_, Some(false)) => Ok(Rootless::False),
        _ => Err("it is true, false or auto".to_owned()),
    }
}

/// The flags before the verb.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Global {
    /// Folder of the containers' state [default: /run/runb, rootless: $XDG_RUNTIME_DIR/runb]
    #[arg(long)]
    pub root: Option<PathBuf>,
    /// File that errors are appended to, besides stderr
    #[arg(long)]
    pub log: Option<PathBuf>,
    /// Form of the lines in --log
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: Format,
    /// Write debugging lines to --log (to stderr without it)
    #[arg(long)]
    pub debug: bool,
    /// Let systemd make the cgroups; cgroupsPath is slice:prefix:name
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Ignore that cgroups are not permitted: true, false or auto
    #[arg(long, value_parser = rootless, default_value = "auto")]
    pub rootless: Rootless,
    /// File of the invocation log [default: /var/log/runb.log]
    #[arg(long)]
    pub invocation_log: Option<PathBuf>,
    /// Form of the invocation log's lines
    #[arg(long, value_enum)]
    pub invocation_log_format: Option<Format>,
    /// Write nothing to the invocation log
    #[arg(long)]
    pub no_invocation_log: bool,
}

/// What `create` and `run` have in common.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Create {
    /// The bundle's folder [default: the current one]
    #[arg(long, short)]
    pub bundle: Option<PathBuf>,
    /// Unix socket that receives the master of the terminal
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the container's init
    #[arg(long)]
    pub pidfd_socket: Option<PathBuf>,
    /// File that receives the process id of the container's init
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// Move the root filesystem instead of pivot_root, for one on a ramdisk
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Hand N descriptors from 3 on to the container, after those of LISTEN_FDS
    #[arg(long, default_value_t = 0)]
    pub preserve_fds: u32,
    /// The container's id
    pub id: String,
}

/// `run`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    #[command(flatten)]
    pub create: Create,
    /// Do not wait for the container
    #[arg(long, short)]
    pub detach: bool,
    /// Keep the container's state after its end
    #[arg(long)]
    pub keep: bool,
    /// Do not become the reaper of the container's orphans
    #[arg(long)]
    pub no_subreaper: bool,
}

/// A verb that takes an id and nothing else.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Id {
    /// The container's id
    pub id: String,
}

/// `kill`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Kill {
    /// Signal every process of the container; no error if it is stopped
    #[arg(long, short)]
    pub all: bool,
    /// The container's id
    pub id: String,
    /// The signal, by name or number
    #[arg(default_value = "SIGTERM")]
    pub signal: String,
}

/// `delete`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Delete {
    /// Kill what runs; no error if there is no such container
    #[arg(long, short)]
    pub force: bool,
    /// The container's id
    pub id: String,
}

/// `list`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Form of the output
    #[arg(long, short, value_enum, default_value = "table")]
    pub format: Listing,
    /// Print the ids alone
    #[arg(long, short)]
    pub quiet: bool,
}

/// `spec`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecFile {
    /// The folder that receives config.json [default: the current one]
    #[arg(long, short)]
    pub bundle: Option<PathBuf>,
    /// For a container of the calling user
    #[arg(long)]
    pub rootless: bool,
}

/// `exec`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Exec {
    /// Unix socket that receives the master of the terminal
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the process
    #[arg(long)]
    pub pidfd_socket: Option<PathBuf>,
    /// Current folder in the container
    #[arg(long)]
    pub cwd: Option<PathBuf>,
    /// An environment variable, NAME=VALUE
    #[arg(long, short)]
    pub env: Vec<OsString>,
    /// Allocate a terminal
    #[arg(long, short)]
    pub tty: bool,
    /// UID[:GID]
    #[arg(long, short)]
    pub user: Option<String>,
    /// A supplementary group
    #[arg(long, short = 'g')]
    pub additional_gids: Vec<u32>,
    /// File with the process as JSON
    #[arg(long, short)]
    pub process: Option<PathBuf>,
    /// Do not wait for the process
    #[arg(long, short)]
    pub detach: bool,
    /// File that receives the process id
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// SELinux label
    #[arg(long)]
    pub process_label: Option<String>,
    /// AppArmor profile
    #[arg(long)]
    pub apparmor: Option<String>,
    /// Set no_new_privs
    #[arg(long)]
    pub no_new_privs: bool,
    /// A capability to add
    #[arg(long, short)]
    pub cap: Vec<String>,
    /// Hand N descriptors from 3 on to the process
    #[arg(long, default_value_t = 0)]
    pub preserve_fds: u32,
    /// [CONTROLLER:]PATH of a cgroup below the container's
    #[arg(long)]
    pub cgroup: Vec<String>,
    /// Go on in a paused container
    #[arg(long)]
    pub ignore_paused: bool,
    /// The container's id
    pub id: String,
    /// The command and its arguments
    pub command: Vec<OsString>,
}

/// `ps`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Ps {
    /// Form of the output
    #[arg(long, short, value_enum, default_value = "table")]
    pub format: Listing,
    /// The container's id
    pub id: String,
    /// Options of ps(1)
    pub options: Vec<OsString>,
}

/// `update`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// File with linux.resources as JSON, - is stdin; takes no other flag beside it
    #[arg(long, short)]
    pub resources: Option<PathBuf>,
    /// Weight of the block devices, 10 to 1000
    #[arg(long)]
    pub blkio_weight: Option<u16>,
    /// Period of the CPU limit, µs
    #[arg(long)]
    pub cpu_period: Option<u64>,
    /// CPU time in a period, µs; -1 is unlimited
    #[arg(long)]
    pub cpu_quota: Option<i64>,
    /// CPU time that may be saved up, µs
    #[arg(long)]
    pub cpu_burst: Option<u64>,
    /// CPU shares
    #[arg(long)]
    pub cpu_share: Option<u64>,
    /// Realtime period, µs
    #[arg(long)]
    pub cpu_rt_period: Option<u64>,
    /// Realtime runtime in a period, µs
    #[arg(long)]
    pub cpu_rt_runtime: Option<i64>,
    /// 1: run only when nothing else does
    #[arg(long)]
    pub cpu_idle: Option<i64>,
    /// CPUs to use
    #[arg(long)]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long)]
    pub cpuset_mems: Option<String>,
    /// Kernel memory limit; of version 1 before Linux 5.16
    #[arg(long, hide = true, value_parser = bytes)]
    pub kernel_memory: Option<i64>,
    /// Limit of the memory in TCP's buffers; of version 1
    #[arg(long, hide = true, value_parser = bytes)]
    pub kernel_memory_tcp: Option<i64>,
    /// Memory limit, bytes or 50M; -1 is unlimited
    #[arg(long, value_parser = bytes)]
    pub memory: Option<i64>,
    /// Soft memory limit
    #[arg(long, value_parser = bytes)]
    pub memory_reservation: Option<i64>,
    /// Memory and swap; -1 is unlimited
    #[arg(long, value_parser = bytes)]
    pub memory_swap: Option<i64>,
    /// Processes; -1 is unlimited
    #[arg(long)]
    pub pids_limit: Option<i64>,
    /// Intel RDT, L3 cache schema
    #[arg(long)]
    pub l3_cache_schema: Option<String>,
    /// Intel RDT, memory bandwidth schema
    #[arg(long)]
    pub mem_bw_schema: Option<String>,
    /// The container's id
    pub id: String,
}

/// Bytes as Docker's units write them: a number, a letter for a power of 1024, `i` and `b` at will (`50M`, `1.5GiB`).
pub fn bytes(text: &str) -> Result<i64, String> {
    if text == "-1" {
        return Ok(-1);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..digits], text[digits..].trim_start_matches(' ').to_ascii_lowercase());
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let unit = unit.strip_suffix('i').unwrap_or(unit);
    let power = match unit {
        "" => Some(0),
        one => "kmgtp".find(one).filter(|_| one.len() == 1).map(|at| at as i32 + 1),
    };
    let wrong = || "it is a number of bytes, as 52428800 or 50M, or -1".to_owned();
    let (power, number) = (power.ok_or_else(wrong)?, number.parse::<f64>().map_err(|_| wrong())?);
    let bytes = number * 1024f64.powi(power);
    if bytes < i64::MAX as f64 { Ok(bytes as i64) } else { Err(wrong()) }
}

/// How statistics are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StatsFormat {
    /// As runc does: one object a line.
    #[default]
    Json,
    /// One scrape, in OpenMetrics' form.
    Prometheus,
}

/// `events`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Time between two statistics, as Go writes durations
    #[arg(long, default_value = "5s")]
    pub interval: String,
    /// Print the statistics once
    #[arg(long)]
    pub stats: bool,
    /// Form of the statistics; prometheus prints them once
    #[arg(long, value_enum, default_value = "json")]
    pub format: StatsFormat,
    /// The container's id
    pub id: String,
}

/// What `checkpoint` and `restore` have in common.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Criu {
    /// Folder of the images [default: checkpoint]
    #[arg(long)]
    pub image_path: Option<PathBuf>,
    /// Folder of CRIU's own files, as its log [default: that of the images]
    #[arg(long)]
    pub work_path: Option<PathBuf>,
    /// Allow open TCP connections
    #[arg(long)]
    pub tcp_established: bool,
    /// Allow unix sockets to the outside
    #[arg(long)]
    pub ext_unix_sk: bool,
    /// Allow a terminal of the outside
    #[arg(long)]
    pub shell_job: bool,
    /// Allow file locks
    #[arg(long)]
    pub file_locks: bool,
    /// Hand memory out, or ask for it, when it is used
    #[arg(long)]
    pub lazy_pages: bool,
    /// What becomes of the cgroups' files: soft, full, strict or ignore [default: soft]
    #[arg(long)]
    pub manage_cgroups_mode: Option<String>,
    /// By what open TCP connections are kept silent: iptables, nftables or skip [default: CRIU's own]
    #[arg(long)]
    pub network_lock: Option<String>,
    /// A namespace that is made, and nothing in it restored: network, which always is so
    #[arg(long)]
    pub empty_ns: Vec<String>,
    /// Take out of the images what is saved twice, or restored
    #[arg(long)]
    pub auto_dedup: bool,
}

/// `checkpoint`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    #[command(flatten)]
    pub criu: Criu,
    /// Folder of an earlier --pre-dump, seen from the images
    #[arg(long)]
    pub parent_path: Option<PathBuf>,
    /// Let the container run on
    #[arg(long)]
    pub leave_running: bool,
    /// Leave out TCP connections that are being made
    #[arg(long)]
    pub tcp_skip_in_flight: bool,
    /// Allow files that were removed
    #[arg(long)]
    pub link_remap: bool,
    /// Descriptor that receives a NUL when --lazy-pages is ready
    #[arg(long)]
    pub status_fd: Option<i32>,
    /// ADDRESS:PORT of the page server
    #[arg(long)]
    pub page_server: Option<String>,
    /// Save the memory alone, and let the container run on
    #[arg(long)]
    pub pre_dump: bool,
    /// The container's id
    pub id: String,
}

/// `restore`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Restore {
    #[command(flatten)]
    pub criu: Criu,
    /// Close open TCP connections
    #[arg(long)]
    pub tcp_close: bool,
    /// TYPE:NAME of the LSM profile, in place of the one that was saved
    #[arg(long)]
    pub lsm_profile: Option<String>,
    /// LSM context of mounts that have one
    #[arg(long)]
    pub lsm_mount_context: Option<String>,
    /// The bundle's folder [default: the current one]
    #[arg(long, short)]
    pub bundle: Option<PathBuf>,
    /// Unix socket that receives the master of the terminal
    #[arg(long)]
    pub console_socket: Option<PathBuf>,
    /// File that receives the process id of the container's init
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// As with create; CRIU changes the root by its own means
    #[arg(long)]
    pub no_pivot: bool,
    /// Do not wait for the container
    #[arg(long, short)]
    pub detach: bool,
    /// Do not become the reaper of the container's orphans
    #[arg(long)]
    pub no_subreaper: bool,
    /// The container's id
    pub id: String,
}

/// `plan`: what `create` would do, printed.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The bundle's folder [default: the current one]
    #[arg(long, short)]
    pub bundle: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Instead, list each field that is unknown here, wrong, or more than this host can do; exit with 1 if there is one
    #[arg(long)]
    pub strict: bool,
    /// Move the root filesystem instead of pivot_root, for one on a ramdisk
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Print the calls, one a line
    #[arg(long)]
    pub calls: bool,
    /// Print in what two bundles, and their plans, differ
    #[arg(long)]
    pub diff: bool,
    /// The container's id; with --diff the two bundles
    pub words: Vec<String>,
}

/// `features`: what this build supports, or what works on this machine.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Print what works on this machine now, and why what does not
    #[arg(long)]
    pub host: bool,
    /// Print JSON (without --host it always is)
    #[arg(long)]
    pub json: bool,
}

/// `seccomp`: the compiled filter, or what it says to a call.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Seccomp {
    /// The bundle's folder [default: the current one]
    #[arg(long, short)]
    pub bundle: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Ask about a process of this architecture: x86_64, x32, x86, aarch64 or arm [default: the machine's own]
    #[arg(long)]
    pub arch: Option<String>,
    /// A system call, by name or number
    pub syscall: Option<String>,
    /// Its arguments, decimal or 0x…; those that are left out are 0
    pub arguments: Vec<String>,
}

/// How `log` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A row for each call.
    #[default]
    Table,
    /// The lines of the log, as text.
    Text,
    /// An object for each call.
    Json,
}

/// `log`: reads the invocation log.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Print the last N calls alone
    #[arg(long, short = 'n')]
    pub last: Option<usize>,
    /// table: a row for each call; text: the lines; json: an object for each call
    #[arg(long, short, value_enum, default_value = "table")]
    pub format: LogFormat,
    /// As --format json
    #[arg(long)]
    pub json: bool,
    /// Go on with what is written from now on
    #[arg(long, short = 'F')]
    pub follow: bool,
    /// Only what concerns this container: the beginning of its id, or a name that an engine gave it
    #[arg(long)]
    pub container: Option<String>,
    /// Only calls of this verb
    #[arg(long)]
    pub verb: Vec<String>,
    /// Only calls by this one: a process id, the name of the caller or of its parent, or a unit
    #[arg(long)]
    pub caller: Option<String>,
    /// Only what began since then: 10m (ago), or 2026-11-22T18:00:00Z
    #[arg(long)]
    pub since: Option<String>,
    /// Only what began before then
    #[arg(long)]
    pub until: Option<String>,
    /// Only what failed, or was killed before its end
    #[arg(long)]
    pub failed: bool,
    /// Only what took longer, as 20ms
    #[arg(long)]
    pub slower: Option<String>,
    /// Read this file in place of the log and those that it was rotated to; - is stdin
    #[arg(long)]
    pub file: Vec<PathBuf>,
    /// timeline: write a picture
    #[arg(long)]
    pub svg: Option<PathBuf>,
    /// timeline: write a page for a browser
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// stats: print them in OpenMetrics' form
    #[arg(long)]
    pub prometheus: bool,
    /// timeline, stats, replay or explain; and the container
    pub words: Vec<String>,
}

/// `help`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Help {
    /// The verb to explain
    pub verb: Option<String>,
}

/// One line for each verb: name, type of its arguments, where its flags stand, what it is for.
macro_rules! verbs {
    ($($name:literal $variant:ident($args:ty) $order:ident $about:literal;)*) => {
        /// What is asked for.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Verb {
            $($variant($args),)*
        }

        static VERBS: &[Definition] = &[$(Definition {
            name: $name,
            about: $about,
            order: Order::$order,
            augment: <$args as Args>::augment_args,
            build: |matches| <$args as FromArgMatches>::from_arg_matches(matches).map(Verb::$variant),
        },)*];
    };
}

struct Definition {
    name: &'static str,
    about: &'static str,
    order: Order,
    augment: fn(Command) -> Command,
    build: fn(&ArgMatches) -> Result<Verb, clap::Error>,
}

verbs! {
    "create" Create(Create) Any "Create a container; its process waits for start";
    "start" Start(Id) Any "Start the process of a created container";
    "state" State(Id) Any "Print the state of a container as JSON";
    "kill" Kill(Kill) Any "Send a signal to a container";
    "delete" Delete(Delete) Any "Remove a container that has stopped";
    "run" Run(Run) Any "Create a container, start it, wait for it and remove it";
    "list" List(List) Any "List the containers of --root";
    "spec" Spec(SpecFile) Any "Write a config.json to begin with";
    "features" Features(Features) Any "Print what this build supports as JSON, or what works on this machine";
    "exec" Exec(Exec) FlagsFirst "Start another process in a container";
    "ps" Ps(Ps) FlagsFirst "List the processes of a container";
    "pause" Pause(Id) Any "Freeze a container";
    "resume" Resume(Id) Any "Thaw a container";
    "update" Update(Update) Any "Change the limits of a container";
    "events" Events(Events) Any "Print statistics and events of a container";
    "checkpoint" Checkpoint(Checkpoint) Any "Save a container by CRIU";
    "restore" Restore(Restore) Any "Bring back a container from a checkpoint";
    "plan" Plan(Plan) Any "Print what create would make, or each of its calls, and do nothing";
    "seccomp" Seccomp(Seccomp) Any "Print the compiled seccomp filter, or whether a system call would pass";
    "log" Log(Log) Any "Print the invocation log, a timeline, statistics, or what was wrong";
    "help" Help(Help) Any "Explain a verb";
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A verb.
    Verb(Box<Verb>),
    /// Print this text and end well.
    Print(String),
}

/// A command line that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError {
    /// What is wrong, on one line.
    pub text: String,
    /// The exit code: runc's, 3 for an unknown verb, 1 for all else.
    pub code: u8,
}

/// One command line, understood. What belongs to the record is there even if the line as a whole is wrong.
#[derive(Debug)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct Parsed {
    /// The global flags.
    pub global: Global,
    /// The verb as it was written.
    pub verb: Option<String>,
    /// The container, if the verb takes one.
    pub id: Option<String>,
    /// How many of the arguments are runb's own (see [`argv::Words`]).
    pub own_length: usize,
    /// What is to be done.
    pub request: Result<Request, UsageError>,
}

fn definition(name: &OsStr) -> Option<&'static Definition> {
    VERBS.iter().find(|definition| name == definition.name)
}

/// Whether it is the name of a verb.
pub fn is_verb(name: &str) -> bool {
    definition(OsStr::new(name)).is_some()
}

fn command(name: &'static str) -> Command {
    Command::new(name).no_binary_name(true).disable_help_flag(true).disable_version_flag(true)
}

fn verb_command(definition: &Definition) -> Command {
    (definition.augment)(command(definition.name))
}

/// All of it as one tree, for whoever describes the command line.
#[cfg(feature = "manual")]
pub fn tree() -> Command {
    let root = Command::new("runb").about("an OCI container runtime").version(env!("CARGO_PKG_VERSION"));
    VERBS.iter().filter(|definition| definition.name != "help").fold(Global::augment_args(root), |root, definition| {
        root.subcommand((definition.augment)(Command::new(definition.name)).about(definition.about))
    })
}

/// Parses `argv`, without the program's name.
pub fn parse(argv: &[OsString]) -> Parsed {
    quick::parse(argv).unwrap_or_else(|| parse_by_definitions(argv))
}

#[cold]
#[inline(never)]
fn parse_by_definitions(argv: &[OsString]) -> Parsed {
    let mut global_command = Global::augment_args(command("runb"));
    let words = argv::split(argv, &global_command, |name| {
        definition(name).map(|definition| (verb_command(definition), definition.order))
    });
    let global =
        global_command.try_get_matches_from_mut(&words.global).and_then(|found| Global::from_arg_matches(&found));
    let (global, error) = match global {
        Ok(global) => (global, words.error.clone()),
        Err(error) => (lenient(&words.global), words.error.clone().or(Some(one_line(&error)))),
    };
    let known = words.verb.as_deref().and_then(definition);
    let takes_id = known
        .is_some_and(|known| !matches!(known.name, "list" | "spec" | "features" | "seccomp" | "log" | "plan" | "help"));
    Parsed {
        global,
        verb: words.verb.as_ref().map(|verb| verb.to_string_lossy().into_owned()),
        id: words.positionals.first().filter(|_| takes_id).map(|id| id.to_string_lossy().into_owned()),
        own_length: words.own_length,
        request: match error {
            Some(text) if !words.help => Err(UsageError { text, code: 1 }),
            _ => request(&words, known),
        },
    }
}

/// Where the invocation log goes even though another global flag is wrong.
fn lenient(flags: &[OsString]) -> Global {
    let value = |name: &str| flags.iter().find_map(|flag| Some(flag.to_str()?.strip_prefix(name)?.to_owned()));
    Global {
        log: value("--log=").map(PathBuf::from),
        log_format: if value("--log-format=").as_deref() == Some("json") { Format::Json } else { Format::Text },
        invocation_log: value("--invocation-log=").map(PathBuf::from),
        no_invocation_log: flags.iter().any(|flag| flag == "--no-invocation-log"),
        ..Global::default()
    }
}

fn request(words: &argv::Words, known: Option<&'static Definition>) -> Result<Request, UsageError> {
    if words.version {
        return Ok(Request::Print(version()));
    }
    match (&words.verb, known) {
        (None, _) => Ok(Request::Print(overview())),
        (Some(verb), None) => Err(UsageError {
            text: format!("{:?} is not a verb of runb; see runb --help", verb.to_string_lossy()),
            code: 3,
        }),
        (_, Some(known)) if words.help => Ok(Request::Print(explain(known))),
        (_, Some(known)) => match verb(words, known).map_err(|text| UsageError { text, code: 1 })? {
            Verb::Help(Help { verb: None }) => Ok(Request::Print(overview())),
            Verb::Help(Help { verb: Some(verb) }) => match definition(OsStr::new(&verb)) {
                Some(known) => Ok(Request::Print(explain(known))),
                None => Err(UsageError { text: format!("{verb:?} is not a verb of runb; see runb --help"), code: 3 }),
            },
            verb => Ok(Request::Verb(Box::new(verb))),
        },
    }
}

fn verb(words: &argv::Words, known: &Definition) -> Result<Verb, String> {
    let mut command = verb_command(known);
    count(&command, words.positionals.len())?;
    let terminator = OsString::from("--");
    let line = words.own.iter().chain([&terminator]).chain(&words.positionals);
    let matches = command.try_get_matches_from_mut(line).map_err(|error| one_line(&error))?;
    (known.build)(&matches).map_err(|error| one_line(&error))
}

/// Compares the number of positional arguments with what the verb takes, in runc's words.
fn count(command: &Command, given: usize) -> Result<(), String> {
    let (mut least, mut most) = (0, Some(0));
    for arg in command.get_positionals() {
        least += usize::from(arg.is_required_set());
        most = if matches!(arg.get_action(), clap::ArgAction::Append) { None } else { most.map(|most| most + 1) };
    }
    let name = command.get_name();
    match most {
        Some(most) if most == least && given != least => {
            Err(format!("{name:?} requires exactly {least} argument(s), not {given}"))
        }
        Some(most) if given > most => Err(format!("{name:?} requires a maximum of {most} argument(s), not {given}")),
        _ if given < least => Err(format!("{name:?} requires a minimum of {least} argument(s), not {given}")),
        _ => Ok(()),
    }
}

fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(first).to_owned()
}

/// runc's form, which engines parse.
pub fn version() -> String {
    format!(
        "runb version {}\ncommit: {}\nspec: {}\n",
        env!("CARGO_PKG_VERSION"),
        env!("RUNB_COMMIT"),
        runb_core::features::OCI_VERSION_MAX
    )
}

fn overview() -> String {
    let mut text = "runb, an OCI container runtime\n\nUsage: runb [FLAGS] VERB [ARGUMENTS]\n\nVerbs:\n".to_owned();
    for definition in VERBS {
        text += &format!("  {:<12} {}\n", definition.name, definition.about);
    }
    let mut globals = Global::augment_args(command("runb")).help_template("{options}");
    text + &format!("\nFlags:\n{}\n", globals.render_help().to_string().trim_end())
        + "  -h, --help     Print this, or what a verb takes\n  -v, --version  Print the version\n"
        + NOT_THERE_YET
}

/// What who comes from runc or crun may look for. README.md has the same.
const NOT_THERE_YET: &str = "
Not there yet:
  processors other than x86-64
  of crun: mounts, --config, --regex, --log-level, --cgroup-manager, annotations run.oci.*
";

fn explain(definition: &Definition) -> String {
    let name = format!("runb {}", definition.name);
    let mut command = verb_command(definition).about(definition.about).bin_name(name).disable_help_flag(false);
    command.render_help().to_string()
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
