//! From flags and environment to what the library is asked for.

use anyhow::{Context as _, Result, bail};
use std::path::PathBuf;

use runb_core::options::{CgroupManager, DeniedCgroups, Keyring, Options, RootEntry, Systemd, Whose};

use super::Context;
use crate::args::{Create, Global, Rootless};
use crate::config::Settings;
use crate::environment::{self, Environment};

/// The folder of the containers' state. It is a folder of runb's own: `/` is refused, as runc does.
pub fn root(global: &Global, environment: &Environment) -> Result<PathBuf> {
    let root = global.root.clone().unwrap_or_else(|| environment.default_root());
    let root = absolute(root)?;
    if root.parent().is_none() {
        bail!("--root must not be /");
    }
    Ok(root)
}

/// What `create` and `run` ask for.
pub fn options(context: &Context<'_>, create: &Create) -> Result<Options> {
    let mut options = read(context.global, context.environment, context.settings, create)?;
    options.meanwhile = context.meanwhile.clone();
    Ok(options)
}

fn read(global: &Global, environment: &Environment, settings: &Settings, create: &Create) -> Result<Options> {
    let bundle = absolute(create.bundle.clone().unwrap_or_else(|| PathBuf::from(".")))?;
    let mut options = Options::new(&create.id, root(global, environment)?, bundle);
    options.console_socket = create.console_socket.clone();
    options.pid_file = create.pid_file.clone();
    options.pidfd_socket = create.pidfd_socket.clone();
    options.preserve_fds = create.preserve_fds;
    options.listen_fds = listen_fds(environment)?;
    options.notify_socket = environment.notify_socket.clone();
    options.root_entry = if create.no_pivot { RootEntry::NoPivot } else { RootEntry::Pivot };
    options.keyring = if create.no_new_keyring { Keyring::Inherit } else { Keyring::New };
    options.cgroup_manager = cgroup_manager(global, environment, settings);
    options.denied_cgroups = if global.rootless == Rootless::False { DeniedCgroups::Fail } else { DeniedCgroups::Stay };
    options.search = environment.search.clone();
    options.hook_environment = Environment::of_hooks()?;
    Ok(options)
}

/// Who makes the cgroup: the runtime, or the systemd of who calls.
pub fn cgroup_manager(global: &Global, environment: &Environment, settings: &Settings) -> CgroupManager {
    if !global.systemd_cgroup {
        return CgroupManager::Cgroupfs;
    }
    let mut systemd = Systemd::default();
    systemd.patience = settings.systemd_timeout.unwrap_or(systemd.patience);
    if environment.caller == environment::Caller::User {
        systemd.whose = Whose::User;
        systemd.runtime_dir = environment.xdg_runtime_dir.clone();
        systemd.session_bus = environment.session_bus.clone();
    }
    CgroupManager::Systemd(systemd)
}

/// The path from `/`, without `.` and doubled slashes; symbolic links and `..` stay as they are.
pub fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).with_context(|| format!("find {} from /", path.display()))
}

fn listen_fds(environment: &Environment) -> Result<u32> {
    let Some(text) = &environment.listen_fds else { return Ok(0) };
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.with_context(|| format!("LISTEN_FDS={text:?} is not a number"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn flags_and_environment_become_options() {
        let global = Global { root: Some("/run/containerd/runc/k8s.io".into()), ..Global::default() };
        let create = Create {
            bundle: Some("/b/./x".into()),
            no_pivot: true,
            no_new_keyring: true,
            preserve_fds: 2,
            id: "web1".into(),
            ..Create::default()
        };
        let environment = Environment {
            listen_fds: Some("3".into()),
            notify_socket: Some("/run/n".into()),
            ..Environment::default()
        };
        let options = read(&global, &environment, &Settings::default(), &create).unwrap();
        assert_eq!((options.id.as_str(), options.preserve_fds, options.listen_fds), ("web1", 2, 3));
        assert_eq!(options.root, PathBuf::from("/run/containerd/runc/k8s.io"));
        assert_eq!(options.bundle, PathBuf::from("/b/x"));
        assert_eq!((options.root_entry, options.keyring), (RootEntry::NoPivot, Keyring::Inherit));
        assert_eq!(options.notify_socket, Some("/run/n".into()));
    }

    #[test]
    fn a_users_containers_are_made_by_the_users_systemd() {
        let mut environment = Environment { xdg_runtime_dir: Some("/run/user/1".into()), ..Environment::default() };
        let settings = Settings { systemd_timeout: Some(Duration::from_secs(5)), ..Settings::default() };
        let global = Global { systemd_cgroup: true, ..Global::default() };
        assert_eq!(cgroup_manager(&Global::default(), &environment, &settings), CgroupManager::Cgroupfs);
        let mut expected = Systemd::default();
        expected.patience = Duration::from_secs(5);
        assert_eq!(cgroup_manager(&global, &environment, &settings), CgroupManager::Systemd(expected.clone()));
        environment.caller = environment::Caller::User;
        (expected.whose, expected.runtime_dir) = (Whose::User, Some("/run/user/1".into()));
        assert_eq!(cgroup_manager(&global, &environment, &settings), CgroupManager::Systemd(expected));
    }

    #[test]
    fn the_bundle_is_the_current_folder_when_none_is_named() {
        let options =
            read(&Global::default(), &Environment::default(), &Settings::default(), &Create::default()).unwrap();
        assert_eq!(options.bundle, std::env::current_dir().unwrap());
        assert_eq!(options.root, PathBuf::from("/run/runb"));
    }

    #[test]
    fn a_root_of_slash_and_a_listen_fds_that_is_no_number_are_refused() {
        let global = Global { root: Some("//".into()), ..Global::default() };
        assert_eq!(root(&global, &Environment::default()).unwrap_err().to_string(), "--root must not be /");
        let environment = Environment { listen_fds: Some("x".into()), ..Environment::default() };
        let error = read(&Global::default(), &environment, &Settings::default(), &Create::default()).unwrap_err();
        assert_eq!(error.to_string(), "LISTEN_FDS=\"x\" is not a number");
    }
}
