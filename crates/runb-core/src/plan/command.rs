//! process.args and process.env: what the workload executes. Source: config.md "Process", execve(2), execvp(3).

use nix::libc;
use oci_spec::runtime::{Hook, Process};

use super::program::{AT_FDCWD, Data, Program};
use super::{Request, hooks};
use crate::survey::Survey;

/// What the workload is: its command, looked for as execvp(3) does.
pub(super) struct Command {
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

impl Command {
    /// `more` is added to process.env.
    pub(super) fn of(process: &Process, more: Vec<String>) -> Self {
        let args = process.args().clone().unwrap_or_default();
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(more);
        let name = args.first().cloned().unwrap_or_default();
        let searched = !name.contains('/');
        let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or("");
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

    /// A hook; where it names no environment it has that of `process`, with `more`.
    pub(super) fn of_hook(hook: &Hook, process: &Process, more: Vec<String>) -> Self {
        let env = hook.env().clone().unwrap_or_else(|| process.env().iter().flatten().cloned().chain(more).collect());
        let candidates = vec![hook.path().as_os_str().as_encoded_bytes().to_vec()];
        let name = hook.path().display().to_string();
        Command { name, place: "", candidates, args: hooks::args(hook), env, searched: false }
    }

    /// Asks whether it can be executed, while there is still somebody to tell. The user and the root are the workload's.
    pub(super) fn check(&self, p: &mut Program) {
        const X_OK: i32 = 1;
        p.section(self.place);
        let name = self.name.clone();
        if !self.searched {
            let path = p.text(&name);
            p.doing(format!("exec: {name:?}: stat {name}"));
            p.call(libc::SYS_faccessat, &[AT_FDCWD.into(), path.into(), libc::F_OK.into()]);
            p.doing(format!("exec: {name:?}"));
            p.call(libc::SYS_faccessat, &[AT_FDCWD.into(), path.into(), X_OK.into()]);
            // A directory answers EISDIR to a wish to write, anything else ENOTDIR, and nothing is opened.
            let flags = libc::O_RDWR | libc::O_DIRECTORY | libc::O_CLOEXEC;
            p.call(libc::SYS_openat, &[AT_FDCWD.into(), path.into(), flags.into()]).tolerate(&[libc::ENOTDIR]);
            return;
        }
        p.doing(format!("exec: {name:?}: executable file not found in $PATH"));
        for (i, candidate) in self.candidates.iter().enumerate() {
            let path = p.text(candidate);
            let call = p.call(libc::SYS_faccessat, &[AT_FDCWD.into(), path.into(), X_OK.into()]).tolerate(&NOT_HERE);
            if i > 0 {
                call.after_failure();
            }
        }
        let nothing = p.text("");
        let last = p.call(libc::SYS_faccessat, &[AT_FDCWD.into(), nothing.into(), X_OK.into()]);
        if !self.candidates.is_empty() {
            last.after_failure();
        }
    }

    /// Executes it.
    pub(super) fn execute(&self, p: &mut Program) {
        p.section(self.place);
        p.doing(format!("exec: {:?}", self.name));
        let (argv, envp) = (p.strings(&self.args), p.strings(&self.env));
        if self.searched {
            // It was there when it was asked for: then what is not there is its interpreter.
            self.search(p, argv, envp, format!("exec: {:?}", self.name));
            return;
        }
        let path = p.text(&self.name);
        p.call(libc::SYS_execve, &[path.into(), argv.into(), envp.into()]);
    }

    /// Tries each candidate. If none is executed, the first that may not be is the reason, as for execvp(3): a security module
    /// refuses what access(2) has allowed. Else there is none, which is said as `nowhere`.
    fn search(&self, p: &mut Program, argv: Data, envp: Data, nowhere: String) {
        let paths: Vec<Data> = self.candidates.iter().map(|candidate| p.text(candidate)).collect();
        let absences = &NOT_HERE[1..];
        for (i, path) in paths.iter().chain(&paths).enumerate() {
            let passed = if i < paths.len() { &NOT_HERE[..] } else { absences };
            let call = p.call(libc::SYS_execve, &[(*path).into(), argv.into(), envp.into()]).tolerate(passed);
            if i > 0 {
                call.after_failure();
            }
        }
        p.doing(nowhere);
        let nothing = p.text("");
        let last = p.call(libc::SYS_execve, &[nothing.into(), argv.into(), envp.into()]);
        if !paths.is_empty() {
            last.after_failure();
        }
    }

    /// Executes it, where somebody hears of a failure to the end: what [`Command::check`] asks before is asked only after
    /// the execve has failed.
    pub(super) fn attempt(&self, p: &mut Program) {
        p.section(self.place);
        let name = self.name.clone();
        let (argv, envp) = (p.strings(&self.args), p.strings(&self.env));
        if self.searched {
            p.doing(format!("exec: {name:?}"));
            self.search(p, argv, envp, format!("exec: {name:?}: executable file not found in $PATH"));
            return;
        }
        let path = p.text(&name);
        p.doing(format!("exec: {name:?}"));
        let execve = [path.into(), argv.into(), envp.into()];
        p.call(libc::SYS_execve, &execve).tolerate(&[libc::ENOENT, libc::EACCES]);
        p.call(libc::SYS_faccessat, &[AT_FDCWD.into(), path.into(), libc::F_OK.into()])
            .after(libc::ENOENT)
            .doing(format!("exec: {name:?}: stat {name}"));
        // A directory answers EISDIR to a wish to write, anything else ENOTDIR, and nothing is opened.
        let flags = libc::O_RDWR | libc::O_DIRECTORY | libc::O_CLOEXEC;
        p.call(libc::SYS_openat, &[AT_FDCWD.into(), path.into(), flags.into()])
            .after(libc::EACCES)
            .tolerate(&[libc::ENOTDIR]);
        p.call(libc::SYS_execve, &execve);
    }
}

/// What the environment gets beside process.env.
pub(super) fn additions(request: &Request<'_>, process: &Process) -> Vec<String> {
    let mut more = Vec::new();
    if request.options.listen_fds > 0 {
        more.push(format!("LISTEN_FDS={}", request.options.listen_fds));
        more.push("LISTEN_PID=1".to_owned());
    }
    more.extend(home(process, request.survey));
    more
}

/// HOME by what the survey found, unless process.env has it.
pub(super) fn home(process: &Process, survey: &Survey) -> Option<String> {
    let given = process.env().iter().flatten().any(|entry| entry.starts_with("HOME="));
    (!given).then(|| format!("HOME={}", survey.home.as_deref().filter(|home| !home.is_empty()).unwrap_or("/")))
}
