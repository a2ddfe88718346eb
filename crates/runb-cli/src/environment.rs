//! The environment of the caller: the only place that reads it. Nothing here is needed: a verb may come with none.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use runb_core::Result;
use runb_core::options::HookEnvironment;

/// What runb takes from the environment.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// The socket that awaits `READY=1`.
    pub notify_socket: Option<PathBuf>,
    /// The number of systemd's descriptors, if they are for this process; the text is checked where it is used.
    pub listen_fds: Option<OsString>,
    /// The user's folder for sockets and state.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// The addresses of the user's bus.
    pub session_bus: Option<String>,
    /// The user's folder for logs.
    pub xdg_state_home: Option<PathBuf>,
    /// The user's home.
    pub home: Option<PathBuf>,
    /// `RUNB_LOG`: file of the invocation log, or `off`.
    pub runb_log: Option<OsString>,
    /// `RUNB_LOG_FORMAT`: `text` or `json`.
    pub runb_log_format: Option<OsString>,
    /// `PATH`, split: where other programs are looked for.
    pub search: Vec<PathBuf>,
    /// Whether the caller is a user rather than the machine's root.
    pub caller: Caller,
}

/// Who calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    /// Root of the machine.
    #[default]
    Root,
    /// Another user, or root of a user namespace that such a one made.
    User,
}

impl Environment {
    /// Reads it. An empty variable counts as one that is not there.
    pub fn read() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let path = |name| variable(name).map(PathBuf::from);
        let xdg_runtime_dir = path("XDG_RUNTIME_DIR");
        let caller = caller(xdg_runtime_dir.as_deref());
        Environment {
            notify_socket: path("NOTIFY_SOCKET"),
            listen_fds: variable("LISTEN_FDS").filter(|_| is_own(variable("LISTEN_PID"))),
            xdg_runtime_dir,
            session_bus: variable("DBUS_SESSION_BUS_ADDRESS").and_then(|addresses| addresses.into_string().ok()),
            xdg_state_home: path("XDG_STATE_HOME"),
            home: path("HOME"),
            runb_log: variable("RUNB_LOG"),
            runb_log_format: variable("RUNB_LOG_FORMAT"),
            search: std::env::var_os("PATH").map_or_else(Vec::new, |path| std::env::split_paths(&path).collect()),
            caller,
        }
    }

    /// All of it, which is what a hook in the runtime's namespaces has where it names none.
    pub fn of_hooks() -> Result<HookEnvironment> {
        HookEnvironment::of(std::env::vars_os())
    }

    /// The folder of the containers' state when `--root` is not given.
    pub fn default_root(&self) -> PathBuf {
        match (self.caller, &self.xdg_runtime_dir) {
            (Caller::User, Some(dir)) => dir.join("runb"),
            _ => PathBuf::from("/run/runb"),
        }
    }

    /// The folder, not on a disk, where records that are lost are counted.
    pub fn counters(&self) -> Option<PathBuf> {
        match self.caller {
            Caller::Root => Some(PathBuf::from("/run")),
            Caller::User => self.xdg_runtime_dir.clone(),
        }
    }

    /// The invocation log when nothing is configured; none if the user has no home.
    pub fn default_invocation_log(&self) -> Option<PathBuf> {
        match self.caller {
            Caller::Root => Some(PathBuf::from("/var/log/runb.log")),
            Caller::User => {
                let state = match (&self.xdg_state_home, &self.home) {
                    (Some(state), _) => state.clone(),
                    (None, Some(home)) => home.join(".local/state"),
                    (None, None) => return None,
                };
                Some(state.join("runb/runb.log"))
            }
        }
    }
}

/// sd_listen_fds(3): the variables are for the process whose id `LISTEN_PID` is, and others inherit them by accident.
fn is_own(listen_pid: Option<OsString>) -> bool {
    listen_pid.is_some_and(|pid| pid.to_str().and_then(|pid| pid.parse().ok()) == Some(std::process::id()))
}

/// Rootless engines run us as uid 0 of a user namespace, with XDG_RUNTIME_DIR: only then is the map worth a look.
fn caller(xdg_runtime_dir: Option<&Path>) -> Caller {
    if !Uid::effective().is_root() {
        return Caller::User;
    }
    match xdg_runtime_dir.and_then(|_| std::fs::read_to_string("/proc/self/uid_map").ok()) {
        Some(map) if !maps_everyone(&map) => Caller::User,
        _ => Caller::Root,
    }
}

/// user_namespaces(7): the initial namespace maps all 2³²−1 ids onto themselves.
fn maps_everyone(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_user_lies_in_the_runtime_dir_and_that_of_root_does_not() {
        let mut environment = Environment { xdg_runtime_dir: Some("/run/user/1000".into()), ..Environment::default() };
        assert_eq!(environment.default_root(), Path::new("/run/runb"));
        environment.caller = Caller::User;
        assert_eq!(environment.default_root(), Path::new("/run/user/1000/runb"));
    }

    #[test]
    fn the_invocation_log_of_a_user_lies_in_the_state_home() {
        let mut environment =
            Environment { home: Some("/home/u".into()), caller: Caller::User, ..Environment::default() };
        let log = |environment: &Environment| environment.default_invocation_log();
        assert_eq!(log(&environment), Some("/home/u/.local/state/runb/runb.log".into()));
        environment.xdg_state_home = Some("/state".into());
        assert_eq!(log(&environment), Some("/state/runb/runb.log".into()));
        environment.caller = Caller::Root;
        assert_eq!(log(&environment), Some("/var/log/runb.log".into()));
        assert_eq!(log(&Environment { caller: Caller::User, ..Environment::default() }), None);
    }

    #[test]
    fn descriptors_that_systemd_has_passed_to_another_process_are_not_ours() {
        let own = std::process::id();
        assert!(is_own(Some(own.to_string().into())));
        for other in [None, Some((own + 1).to_string()), Some(String::new()), Some("x".to_owned())] {
            assert!(!is_own(other.map(OsString::from)));
        }
    }

    #[test]
    fn only_the_full_map_is_the_machines_root() {
        assert!(maps_everyone("         0          0 4294967295\n"));
        assert!(!maps_everyone("         0       1000          1\n         1     100000      65536\n"));
    }
}
