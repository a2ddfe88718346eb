//! process.args and process.env: what the workload executes. Source: config.md "Process", execve(2), execvp(3).

use std::rc::Rc;

use nix::libc;
use oci_spec::runtime::{Hook, Process};

use crate::plan::program::{AT_FDCWD, Data, Hint, O_DIRECTORY, O_RDWR, Program, Strings};
use crate::plan::request::Request;

/// What the workload is: its command, looked for as execvp(3) does.
pub(in crate::plan) struct Command {
    /// As the configuration has it.
    name: String,
    place: &'static str,
    candidates: Vec<Vec<u8>>,
    args: Vec<String>,
    env: Vec<String>,
    searched: bool,
}

/// Why a candidate is passed over for the next; the first of these only as long as there may be a better one.
const NOT_HERE: [i32; 5] = [libc::EACCES, libc::ENOENT, libc::ENOTDIR, libc::ELOOP, libc::ENAMETOOLONG];

/// What it means that no candidate is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nowhere {
    /// Nobody has asked so far.
    NotFound,
    /// One was there when it was asked for.
    Gone,
}

impl Command {
    pub(in crate::plan) fn of(process: &Process, env: Vec<String>) -> Self {
        let args = process.args().clone().unwrap_or_default();
        let name = args.first().cloned().unwrap_or_default();
        let searched = !name.contains('/');
        let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or("");
        let candidates = match searched {
            false => vec![name.as_bytes().to_vec()],
            true => path
                .split(':')
                .filter(|directory| directory.starts_with('/'))
                .map(|directory| format!("{}/{name}", directory.trim_end_matches('/')).into_bytes())
                .collect(),
        };
        Command { name, place: "process.args[0]", candidates, args, env, searched }
    }

    pub(in crate::plan) fn of_hook(hook: &Hook, env: Vec<String>) -> Self {
        let candidates = vec![hook.path().as_os_str().as_encoded_bytes().to_vec()];
        let name = hook.path().display().to_string();
        Command { name, place: "", candidates, args: arguments(hook), env, searched: false }
    }

    /// Asks whether it can be executed, while there is still somebody to tell. The user and the root are the workload's.
    pub(in crate::plan) fn check(&self, p: &mut Program) {
        p.section(self.place);
        let name = self.name.clone();
        if !self.searched {
            let path = p.text(&name);
            p.doing(format!("exec: {name:?}: stat {name}"));
            p.eaccess(path, libc::F_OK);
            p.doing(format!("exec: {name:?}"));
            p.eaccess(path, libc::X_OK);
            // A directory answers EISDIR to a wish to write, anything else ENOTDIR, and nothing is opened.
            p.openat(AT_FDCWD, path, O_RDWR | O_DIRECTORY).tolerate(&[libc::ENOTDIR]);
            return;
        }
        p.doing(format!("exec: {name:?}: executable file not found in $PATH"));
        for (i, candidate) in self.candidates.iter().enumerate() {
            let call = p.eaccess(candidate, libc::X_OK).tolerate(&NOT_HERE);
            if i > 0 {
                call.after_failure();
            }
        }
        let last = p.eaccess("", libc::X_OK);
        if !self.candidates.is_empty() {
            last.after_failure();
        }
    }

    /// Executes it.
    pub(in crate::plan) fn execute(&self, p: &mut Program) {
        p.section(self.place);
        p.doing(format!("exec {}", self.name));
        let (argv, envp) = (p.strings(&self.args), p.strings(&self.env));
        if self.searched {
            // It was there when it was asked for: then what is not there is its interpreter.
            self.search(p, argv, envp, Nowhere::Gone);
            return;
        }
        p.execve(self.name.as_str(), argv, envp).hint(Hint::InterpreterMissing);
    }

    /// Tries each candidate. If none is executed, the first that may not be is the reason, as for execvp(3): a security module
    /// refuses what access(2) has allowed. Else there is none, which `nowhere` explains.
    fn search(&self, p: &mut Program, argv: Strings, envp: Strings, nowhere: Nowhere) {
        let named = |candidate: &Vec<u8>| {
            let what = format!("exec {}", String::from_utf8_lossy(candidate));
            (p.text(candidate), Rc::from(what))
        };
        let paths: Vec<(Data, Rc<str>)> = self.candidates.iter().map(named).collect();
        let absences = &NOT_HERE[1..];
        for (i, (path, what)) in paths.iter().chain(&paths).enumerate() {
            let passed = if i < paths.len() { &NOT_HERE[..] } else { absences };
            let call = p.execve(*path, argv, envp).doing(what.clone()).tolerate(passed);
            if i > 0 {
                call.after_failure();
            }
        }
        let last = p.execve("", argv, envp);
        let last = match nowhere {
            Nowhere::Gone => last.hint(Hint::InterpreterMissing),
            Nowhere::NotFound => last.doing(format!("exec: {:?}: executable file not found in $PATH", self.name)),
        };
        if !paths.is_empty() {
            last.after_failure();
        }
    }

    /// Executes it, where somebody hears of a failure to the end: what [`Command::check`] asks before is asked only after
    /// the execve has failed.
    pub(in crate::plan) fn attempt(&self, p: &mut Program) {
        p.section(self.place);
        let name = self.name.clone();
        let (argv, envp) = (p.strings(&self.args), p.strings(&self.env));
        if self.searched {
            self.search(p, argv, envp, Nowhere::NotFound);
            return;
        }
        let path = p.text(&name);
        p.doing(format!("exec {name}"));
        p.execve(path, argv, envp).tolerate(&[libc::ENOENT, libc::EACCES]);
        p.access(path, libc::F_OK).after(libc::ENOENT).doing(format!("exec: {name:?}: stat {name}"));
        p.execve(path, argv, envp).after(libc::ENOENT).hint(Hint::InterpreterMissing);
        p.doing(format!("exec: {name:?}"));
        // A directory answers EISDIR to a wish to write, anything else ENOTDIR, and nothing is opened.
        p.openat(AT_FDCWD, path, O_RDWR | O_DIRECTORY).after(libc::EACCES).tolerate(&[libc::ENOTDIR]);
        p.execve(path, argv, envp);
    }
}

/// The arguments of a hook; the first is its path where it has none.
pub(in crate::plan) fn arguments(hook: &Hook) -> Vec<String> {
    let given = hook.args().as_ref().filter(|args| !args.is_empty());
    given.cloned().unwrap_or_else(|| vec![hook.path().display().to_string()])
}

/// What the environment gets beside process.env.
pub(in crate::plan) fn additions(request: &Request<'_>) -> Vec<String> {
    match request.options.listen_fds {
        0 => Vec::new(),
        count => vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()],
    }
}
