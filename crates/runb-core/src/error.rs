//! The one error type: what was being done, at which place of the configuration, by which call, and the errno by name.

use std::fmt;

use nix::errno::Errno as Nix;

use crate::trace::Step;

/// A result of this library.
pub type Result<T> = std::result::Result<T, Error>;

/// Who is to act on an error; a program decides its exit code by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The caller asked for something that cannot be (a bad id, flags that exclude each other).
    Usage,
    /// config.json is not what the specification demands.
    Spec,
    /// No such container.
    NotFound,
    /// The id is in use.
    Exists,
    /// The container's status does not allow the operation.
    State,
    /// The host cannot do what is asked, or a call of the runtime failed.
    Host,
    /// A call of the container's init failed.
    Init,
    /// The kernel does not execute the workload's command, or that of an exec.
    Command,
    /// A hook failed.
    Hook,
    /// A fault of runb itself.
    Internal,
}

/// The number of an error of a system call (errno(3)).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

impl Errno {
    /// The number, as the kernel and libc have it.
    pub fn number(self) -> i32 {
        self.0
    }

    /// What it means, in libc's words, in lower case.
    fn meaning(self) -> String {
        lower(Nix::from_raw(self.0).desc())
    }
}

impl fmt::Debug for Errno {
    /// The name, as `ENOENT`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Nix::from_raw(self.0))
    }
}

impl fmt::Display for Errno {
    /// As `no such file or directory (ENOENT)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({self:?})", self.meaning())
    }
}

/// A system call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// In words, or as strace would print it.
    pub text: String,
    /// Which call of init's program it was, from 0, if it was one of those.
    pub index: Option<usize>,
}

/// What went wrong. `Display` prints the whole chain on one line:
/// `mounts[7] (/data): mount tmpfs with "sizze=5": Invalid argument (EINVAL)`.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    origin: Option<Box<str>>,
    text: Box<str>,
    plain: Option<Box<str>>,
    errno: Option<Errno>,
    call: Option<Box<Call>>,
    cleanup: Vec<Error>,
    steps: Vec<Step>,
}

impl Error {
    /// An error of `kind`; `text` says what was being done or what is wrong.
    #[cold]
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Error {
            kind,
            origin: None,
            text: text.into().into(),
            plain: None,
            errno: None,
            call: None,
            cleanup: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// A call of the runtime failed; `call` names it and its object (`open /run/netns/x`).
    #[cold]
    pub(crate) fn host(call: impl Into<String>, errno: Nix) -> Self {
        let text = call.into();
        let call = Some(Box::new(Call { text: text.clone(), index: None }));
        Error { call, ..Error::new(Kind::Host, text).with_errno(errno) }
    }

    /// A call failed; `call` names it and its object (`open /run/netns/x`).
    #[cold]
    pub fn io(call: impl Into<String>, error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(code) => Error::host(call, Nix::from_raw(code)),
            None => Error::new(Kind::Host, format!("{}: {error}", call.into())),
        }
    }

    /// config.json is wrong at `origin` (`mounts[6].source`, `process.rlimits[1]`).
    #[cold]
    pub(crate) fn spec(origin: impl Into<String>, text: impl Into<String>) -> Self {
        Error::new(Kind::Spec, text).at(origin)
    }

    /// Something that cannot happen did.
    #[cold]
    pub fn internal(text: impl Into<String>) -> Self {
        Error::new(Kind::Internal, format!("internal error: {}", text.into()))
    }

    /// Names the place in config.json, or the option (`options.pid_file`), unless a more exact one is already named.
    #[cold]
    pub fn at(mut self, origin: impl Into<String>) -> Self {
        self.origin.get_or_insert_with(|| origin.into().into());
        self
    }

    /// Says what may help, behind the text and in brackets.
    #[cold]
    pub fn with_hint(mut self, hint: impl fmt::Display) -> Self {
        self.text = format!("{} ({hint})", self.text).into();
        self
    }

    /// Puts `what: ` before the text: what was being done at large.
    #[cold]
    pub fn during(mut self, what: impl fmt::Display) -> Self {
        self.text = format!("{what}: {}", self.text).into();
        self
    }

    /// Names the errno.
    #[cold]
    pub(crate) fn with_errno(mut self, errno: Nix) -> Self {
        self.errno = Some(Errno(errno as i32));
        self
    }

    /// Names the call of init's program that failed: its index, and the call as strace would print it.
    #[cold]
    pub(crate) fn with_call(mut self, index: usize, call: String) -> Self {
        self.call = Some(Box::new(Call { text: call, index: Some(index) }));
        self
    }

    /// It is a command that is not executed, of which `what` says no more than that.
    #[cold]
    pub(crate) fn of_command(mut self, what: &str) -> Self {
        (self.kind, self.plain) = (Kind::Command, Some(what.into()));
        self
    }

    /// Sets the kind.
    #[cold]
    pub(crate) fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Attaches a failure of the clean-up that followed; it never replaces the error itself.
    #[cold]
    pub fn and_cleanup(mut self, error: Error) -> Self {
        self.cleanup.push(error);
        self
    }

    /// Attaches what was done before.
    #[cold]
    pub(crate) fn with_steps(mut self, steps: Vec<Step>) -> Self {
        self.steps = steps;
        self
    }

    /// Who is to act.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The place in config.json, or the option, if there is one.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// The errno of the failed call, if it was a call.
    pub fn errno(&self) -> Option<Errno> {
        self.errno
    }

    /// The call that failed, if it was one.
    pub fn call(&self) -> Option<&Call> {
        self.call.as_deref()
    }

    /// Of a command that is not executed what a shell would say in the workload's name, without the place in config.json:
    /// `exec /run.sh: no such file or directory`.
    pub fn in_the_workloads_name(&self) -> Option<String> {
        let (what, errno) = self.plain.as_ref().zip(self.errno)?;
        Some(format!("{what}: {}", errno.meaning()))
    }

    /// As [`Error::errno`], to be compared.
    pub(crate) fn nix_errno(&self) -> Option<Nix> {
        self.errno.map(|errno| Nix::from_raw(errno.0))
    }

    /// What failed while cleaning up after this error.
    pub fn cleanup(&self) -> &[Error] {
        &self.cleanup
    }

    /// What was done before it, by the call that failed.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        f.write_str(&self.text)?;
        if let Some(errno) = self.errno {
            write!(f, ": {errno}")?;
        }
        Ok(())
    }
}

/// Engines match runc's lower-case texts ("no such file or directory", "permission denied").
fn lower(desc: &str) -> String {
    let mut chars = desc.chars();
    match (chars.next(), desc.chars().nth(1)) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(chars).collect(),
        _ => desc.to_owned(),
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_place_the_call_and_the_errno() {
        let error = Error::host("mount tmpfs with \"sizze=5\"", Nix::EINVAL).at("mounts[7] (/data)");
        assert_eq!(error.to_string(), "mounts[7] (/data): mount tmpfs with \"sizze=5\": invalid argument (EINVAL)");
    }
}
