//! linux.intelRdt: the group of the resctrl filesystem that the container is in, and what is written there. Sources:
//! config-linux.md "IntelRdt", Documentation/filesystems/resctrl.rst.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxIntelRdt, Spec};

use super::procfs::write_file;
use super::program::Program;
use crate::error::{Error, Kind, Result};
use crate::survey::{Resctrl, resctrl_group};

/// The place in config.json.
pub(crate) const PLACE: &str = "linux.intelRdt";

/// What the runtime makes before there is an init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntelRdt {
    /// Where resctrl is mounted.
    pub root: PathBuf,
    /// The group.
    pub group: PathBuf,
    /// Who has it.
    pub whose: Whose,
    /// What is written to its schemata, line by line in one write, with the place of each.
    pub lines: Vec<(String, String)>,
    /// The monitoring group below it.
    pub monitoring: Option<PathBuf>,
}

/// Who has a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// It is there.
    Others,
    /// It is made for the container, and goes with it.
    Containers,
    /// It is made with the container and stays, since closID names it.
    Everybodys,
}

/// The group of linux.intelRdt.
///
/// # Errors
/// There is no resctrl, the group is missing or has other schemata, or a line is none.
pub(super) fn plan(spec: &Spec, id: &str, seen: Option<&Resctrl>) -> Result<Option<IntelRdt>> {
    let Some(rdt) = spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref()) else { return Ok(None) };
    check(rdt)?;
    let Some(seen) = seen else {
        let text = "intelRdt is specified in config, but Intel RDT is not enabled: no resctrl filesystem is mounted";
        return Err(Error::new(Kind::Host, text).at(PLACE));
    };
    let clos_id = rdt.clos_id().as_deref().filter(|name| !name.is_empty());
    let group = resctrl_group(&seen.root, clos_id, id);
    let lines = lines(rdt);
    let whose = match (&seen.schemata, clos_id) {
        (Some(there), Some(_)) => {
            lines.iter().try_for_each(|(place, line)| same(place, line, there))?;
            Whose::Others
        }
        // Somebody has made it beforehand for this container.
        (Some(_), None) => Whose::Others,
        (None, None) => Whose::Containers,
        (None, Some(name)) if lines.is_empty() => {
            let text = format!(
                "clos dir not accessible (must be pre-created when schemata, l3CacheSchema and memBwSchema are empty): \
                 there is no {name:?} in {}",
                seen.root.display()
            );
            return Err(Error::new(Kind::Host, text).at(format!("{PLACE}.closID")));
        }
        (None, Some(_)) => Whose::Everybodys,
    };
    let lines = if whose == Whose::Others && clos_id.is_some() { Vec::new() } else { lines };
    let monitoring = (rdt.enable_monitoring() == &Some(true)).then(|| group.join("mon_groups").join(id));
    Ok(Some(IntelRdt { root: seen.root.clone(), group, whose, lines, monitoring }))
}

/// Joins the groups: a process hands them on to all that it forks. In the monitoring group last, as a group of its own forgets it.
pub(super) fn join<'a>(p: &mut Program, groups: impl Iterator<Item = &'a Path>) {
    for group in groups {
        let tasks = group.join("tasks");
        p.section(PLACE);
        p.doing(format!("adding pid of the process to resctrl: write \"0\" to {}", tasks.display()));
        write_file(p, tasks.as_path(), "0");
    }
}

impl IntelRdt {
    /// The groups that the container's processes are in, in the order in which they are joined.
    pub fn groups(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.group), self.monitoring.as_ref()].into_iter().flatten().map(PathBuf::as_path)
    }
}

fn check(rdt: &LinuxIntelRdt) -> Result<()> {
    if let Some(name) = rdt.clos_id().as_deref().filter(|name| !name.is_empty())
        && (name == "." || name == ".." || name.len() > 1 && name.contains('/'))
    {
        return Err(Error::spec(format!("{PLACE}.closID"), format!("invalid intelRdt.ClosID {name:?}")));
    }
    #[allow(deprecated, reason = "they are refused")]
    let former = [("enableCMT", rdt.enable_cmt()), ("enableMBM", rdt.enable_mbm())];
    if let Some((name, _)) = former.iter().find(|(_, set)| **set == Some(true)) {
        let text = "is of an older specification, and no runtime does it: enableMonitoring took its place";
        return Err(Error::spec(format!("{PLACE}.{name}"), text));
    }
    for (place, line) in lines(rdt) {
        let l3 = place.ends_with("l3CacheSchema");
        if line.contains('\n') && !l3 {
            return Err(Error::spec(place, format!("{line:?} has more than one line")));
        }
        if place.ends_with("memBwSchema") && !line.starts_with("MB:") {
            return Err(Error::spec(place, format!("{line:?} does not begin with \"MB:\"")));
        }
    }
    Ok(())
}

/// The lines in the order in which they are written.
fn lines(rdt: &LinuxIntelRdt) -> Vec<(String, String)> {
    let one = |name: &str, text: &Option<String>| text.clone().map(|text| (format!("{PLACE}.{name}"), text));
    let fields = [one("l3CacheSchema", rdt.l3_cache_schema()), one("memBwSchema", rdt.mem_bw_schema())];
    let list = rdt.schemata().iter().flatten().enumerate();
    let list = list.map(|(i, line)| (format!("{PLACE}.schemata[{i}]"), line.clone()));
    fields.into_iter().flatten().chain(list).filter(|(_, line)| !line.is_empty()).collect()
}

/// A line of schemata as the kernel means it: what each cache has, without the signs that it may be written with.
fn parsed(line: &str) -> Option<(&str, BTreeMap<&str, String>)> {
    let (resource, parts) = line.split_once(':')?;
    let value = |text: &str| {
        let plain = text.trim().trim_start_matches("0x").trim_start_matches('0').to_ascii_lowercase();
        if plain.is_empty() { "0".to_owned() } else { plain }
    };
    let parts = parts.split(';').filter(|part| !part.trim().is_empty());
    let parts = parts.map(|part| part.split_once('=').map(|(cache, text)| (cache.trim(), value(text))));
    Some((resource.trim(), parts.collect::<Option<_>>()?))
}

/// Whether a group that is there has what a line says.
fn same(place: &str, text: &str, there: &str) -> Result<()> {
    for line in text.lines() {
        let Some((resource, wanted)) = parsed(line) else {
            return Err(Error::spec(place, format!("{line:?} is no line of schemata")));
        };
        let found = there.lines().filter_map(parsed).find(|(other, _)| *other == resource);
        let differs = |(cache, value): (&&str, &String)| found.as_ref().is_none_or(|(_, found)| found.get(cache) != Some(value));
        if wanted.iter().any(differs) {
            let has = there.lines().find(|other| parsed(other).is_some_and(|(other, _)| other == resource));
            let has = has.map_or(format!("no {resource}"), |line| format!("{:?}", line.trim()));
            return Err(Error::new(Kind::Host, format!("{line:?} is not what the group closID has: {has}")).at(place));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn planned(rdt: Value, there: Option<&str>) -> Result<Option<IntelRdt>> {
        let spec = json!({"ociVersion": "1.3.0", "linux": {"intelRdt": rdt}});
        let seen = Resctrl { root: "/sys/fs/resctrl".into(), schemata: there.map(str::to_owned) };
        plan(&serde_json::from_value(spec).expect("a spec"), "web1", Some(&seen))
    }

    const THERE: &str = "    MB:0=100;1= 70\n    L3:0=07ff;1=1f\n";

    #[test]
    fn the_group_is_the_containers_own_unless_closid_names_one() {
        let own = planned(json!({"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20", "schemata": ["L2:0=f"]}), None);
        let own = own.expect("planned").expect("a group");
        assert_eq!((own.group.to_str(), own.whose), (Some("/sys/fs/resctrl/web1"), Whose::Containers));
        let lines: Vec<_> = own.lines.iter().map(|(_, line)| line.as_str()).collect();
        assert_eq!(lines, ["L3:0=f", "MB:0=20", "L2:0=f"]);
        let named = planned(json!({"closID": "gold", "schemata": ["L3:0=f"]}), None).expect("planned").expect("a group");
        assert_eq!((named.group.to_str(), named.whose), (Some("/sys/fs/resctrl/gold"), Whose::Everybodys));
        let root = planned(json!({"closID": "/", "enableMonitoring": true}), Some(THERE)).expect("planned").expect("a group");
        assert_eq!((root.group.to_str(), root.whose), (Some("/sys/fs/resctrl"), Whose::Others));
        assert_eq!(root.monitoring, Some("/sys/fs/resctrl/mon_groups/web1".into()));
    }

    #[test]
    fn a_group_that_is_there_must_have_what_is_asked_for_however_it_is_written() {
        for lines in [
            json!({"closID": "gold", "l3CacheSchema": "L3:1=01F;0=7ff", "memBwSchema": "MB:1=70"}),
            json!({"closID": "gold", "schemata": ["MB: 0 = 100 ;"]}),
            json!({"closID": "gold"}),
        ] {
            let plan = planned(lines, Some(THERE)).expect("planned").expect("a group");
            assert_eq!((plan.whose, plan.lines), (Whose::Others, Vec::new()));
        }
        let refused = |rdt| planned(rdt, Some(THERE)).expect_err("it is refused").to_string();
        let text = refused(json!({"closID": "gold", "memBwSchema": "MB:0=20"}));
        let expected = r#"linux.intelRdt.memBwSchema: "MB:0=20" is not what the group closID has: "MB:0=100;1= 70""#;
        assert_eq!(text, expected);
        let text = refused(json!({"closID": "gold", "schemata": ["MB:0=100", "L2:0=f"]}));
        assert_eq!(text, r#"linux.intelRdt.schemata[1]: "L2:0=f" is not what the group closID has: no L2"#);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        let refused = |rdt| planned(rdt, None).expect_err("it is refused").to_string();
        for name in [".", "..", "a/b"] {
            let expected = format!("linux.intelRdt.closID: invalid intelRdt.ClosID {name:?}");
            assert_eq!(refused(json!({"closID": name})), expected);
        }
        assert!(refused(json!({"closID": "gold"})).starts_with("linux.intelRdt.closID: clos dir not accessible"));
        assert!(refused(json!({"memBwSchema": "L3:0=f"})).contains("does not begin with"));
        assert!(refused(json!({"schemata": ["MB:0=1\nMB:1=1"]})).contains("schemata[0]: "));
        let spec = json!({"ociVersion": "1.3.0", "linux": {"intelRdt": {}}});
        let text = plan(&serde_json::from_value(spec).expect("a spec"), "web1", None).expect_err("refused").to_string();
        assert!(text.starts_with("linux.intelRdt: intelRdt is specified in config, but Intel RDT is not enabled"));
    }
}
