//! `features`: what this build supports, or what works on this machine.

use anyhow::{Context as _, Result};
use std::fmt::Write;

use runb_core::features::host::{Ability, HostFeatures, Works};
use serde::Serialize;

use super::Context;
use crate::args::Features;

/// Prints it; nothing is done, and no right is needed.
pub fn run(args: &Features, context: &Context<'_>) -> Result<u8> {
    let text = match (args.host, args.json) {
        (false, _) => json(&runb_core::features::features()?)?,
        (true, true) => json(&HostFeatures::probe(&context.environment.search)?)?,
        (true, false) => text(&HostFeatures::probe(&context.environment.search)?),
    };
    context.print(&text)?;
    Ok(0)
}

fn json(whole: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(whole).context("internal error: features")?;
    Ok(text + "\n")
}

fn text(host: &HostFeatures) -> String {
    let mut text = format!("kernel   {} {}\n", host.kernel, host.machine);
    let _ = writeln!(text, "cgroups  {}", host.cgroup.mode);
    for hierarchy in &host.cgroup.hierarchies {
        let controllers = match hierarchy.controllers.as_slice() {
            [] => "no controllers".to_owned(),
            list => list.join(" "),
        };
        let _ = writeln!(text, "         v{} {}: {controllers}", hierarchy.version, hierarchy.mountpoint.display());
    }
    let lsms =
        host.lsms.as_ref().map_or("not told: /sys/kernel/security/lsm cannot be read".to_owned(), |l| l.join(" "));
    let _ = writeln!(text, "modules  {lsms}\n");
    for ability in &host.abilities {
        let Ability { name, purpose, works, reason, .. } = ability;
        let _ = writeln!(text, "{}", line(name, purpose, *works, reason.as_deref()));
    }
    text
}

/// `yes      openat2  what for (reason)`.
fn line(name: &str, purpose: &str, works: Works, reason: Option<&str>) -> String {
    let works = match works {
        Works::Yes => "yes",
        Works::No => "no",
        _ => "unknown",
    };
    let reason = reason.map_or(String::new(), |reason| format!(" ({reason})"));
    format!("{works:<8} {name:<40} {purpose}{reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ability_that_is_missing_is_told_with_its_reason() {
        let line = line("openat2", "paths", Works::No, Some("openat2: ENOSYS"));
        assert_eq!(line.split_whitespace().collect::<Vec<_>>().join(" "), "no openat2 paths (openat2: ENOSYS)");
    }
}
