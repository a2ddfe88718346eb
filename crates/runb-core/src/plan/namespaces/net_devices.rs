//! linux.netDevices: which devices the runtime moves into the container's network namespace, while init waits in it.

use std::path::PathBuf;

use nix::libc;
use oci_spec::runtime::Spec;
use runb_init::Point;

use super::Namespaces;
use crate::error::{Error, Result};
use crate::plan::program::Program;

/// A device of the runtime's network namespace that is to be in the container's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetDevice {
    /// The place in config.json.
    pub place: String,
    /// Its name.
    pub name: String,
    /// The name that it gets; with `%d` the kernel puts a number there.
    pub inside: String,
    /// The network namespace, if it is one that is joined.
    pub joined: Option<PathBuf>,
}

/// The longest name of a device (IFNAMSIZ without the NUL).
const LONGEST: usize = libc::IFNAMSIZ - 1;

/// The stop of init at which the devices are moved, if there are any; in the order of their names.
///
/// # Errors
/// There is no network namespace of the container's own, a name is none, or two devices would have the same.
pub(in crate::plan) fn stop(p: &mut Program, spec: &Spec, namespaces: &Namespaces) -> Result<Vec<NetDevice>> {
    let Some(map) = spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref()) else { return Ok(Vec::new()) };
    if map.is_empty() {
        return Ok(Vec::new());
    }
    if !namespaces.has(libc::CLONE_NEWNET as u64) {
        return Err(Error::spec(PLACE, "unable to move network devices without a NET namespace"));
    }
    let joined = namespaces.joined(libc::CLONE_NEWNET as u64).map(PathBuf::from);
    let mut devices: Vec<NetDevice> = map
        .iter()
        .map(|(name, device)| {
            let inside = device.name().as_ref().filter(|inside| !inside.is_empty()).unwrap_or(name).clone();
            NetDevice { place: format!("{PLACE}[{name}]"), name: name.clone(), inside, joined: joined.clone() }
        })
        .collect();
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    for (i, device) in devices.iter().enumerate() {
        valid(&device.name).map_err(|text| Error::spec(&device.place, text))?;
        valid(&device.inside).map_err(|text| Error::spec(format!("{}.name", device.place), text))?;
        let same = |other: &&NetDevice| other.inside == device.inside && !device.inside.contains('%');
        if let Some(other) = devices[..i].iter().find(same) {
            let text = format!("{} would have the name {} in the container, too", other.place, device.inside);
            return Err(Error::spec(format!("{}.name", device.place), text));
        }
    }
    p.section(PLACE);
    p.stop(Point::NetDevices);
    Ok(devices)
}

const PLACE: &str = "linux.netDevices";

/// `dev_valid_name` in net/core/dev.c.
fn valid(name: &str) -> std::result::Result<(), String> {
    let wrong = name.is_empty() || name.len() > LONGEST || name == "." || name == "..";
    if wrong || name.contains(['/', ':']) || name.bytes().any(|byte| byte.is_ascii_whitespace() || byte == 0x0b) {
        return Err(format!("invalid network device name {name:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn planned(devices: Value, namespaces: Value) -> Result<(Vec<NetDevice>, usize)> {
        let linux = json!({"namespaces": namespaces, "netDevices": devices});
        let spec: Spec = serde_json::from_value(json!({"ociVersion": "1.3.0", "linux": linux})).expect("a spec");
        let mut p = Program::new(3);
        let devices = stop(&mut p, &spec, &Namespaces::of(&spec, &crate::host::Host::plain())?)?;
        Ok((devices, p.calls().len()))
    }

    #[test]
    fn devices_are_moved_at_one_stop_in_the_order_of_their_names() {
        let own = json!([{"type": "network"}]);
        let devices = json!({"eth1": {"name": "b"}, "eth0": {}, "eth2": {"name": ""}});
        let (devices, calls) = planned(devices, own.clone()).expect("planned");
        let names: Vec<_> = devices.iter().map(|device| (device.name.as_str(), device.inside.as_str())).collect();
        assert_eq!((names.as_slice(), calls), (&[("eth0", "eth0"), ("eth1", "b"), ("eth2", "eth2")][..], 1));
        assert_eq!(planned(json!({}), own).expect("planned"), (Vec::new(), 0));
        let (devices, _) = planned(json!({"a": {}}), json!([{"type": "network", "path": "/n"}])).expect("planned");
        assert_eq!(devices[0].joined, Some("/n".into()));
    }

    #[test]
    fn what_cannot_be_moved_is_refused_with_its_place() {
        let refused = |devices| planned(devices, json!([{"type": "network"}])).expect_err("it is refused").to_string();
        let text = planned(json!({"a": {}}), json!([])).expect_err("it is refused").to_string();
        assert_eq!(text, "linux.netDevices: unable to move network devices without a NET namespace");
        for name in ["a b", "..", "a/b", "a:b", "sixteen-letters-"] {
            let text = refused(json!({name: {}}));
            assert_eq!(text, format!("linux.netDevices[{name}]: invalid network device name {name:?}"));
            let text = refused(json!({"a": {"name": name}}));
            assert_eq!(text, format!("linux.netDevices[a].name: invalid network device name {name:?}"));
        }
        let text = refused(json!({"a": {"name": "x"}, "b": {"name": "x"}}));
        assert_eq!(text, "linux.netDevices[b].name: linux.netDevices[a] would have the name x in the container, too");
        planned(json!({"a": {"name": "x%d"}, "b": {"name": "x%d"}}), json!([{"type": "network"}])).expect("planned");
    }
}
