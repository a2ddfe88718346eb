//! What the resctrl filesystem tells of a group: its schemata and what its monitoring counts.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files::Files;
use crate::error::{Error, Result};
use crate::resctrl::Groups;

/// The resctrl group of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IntelRdt {
    /// What the machine's L3 caches can be divided into; `None` if they cannot.
    pub l3_cache_info: Option<L3CacheInfo>,
    /// How memory bandwidth can be divided; `None` if it cannot.
    pub mem_bw_info: Option<MemBwInfo>,
    /// The lines of the schemata of all that is in no group.
    pub root_schemata: Vec<String>,
    /// The lines of the container's group.
    pub schemata: Vec<String>,
    /// What is counted, by cache; of the container alone if it has a monitoring group of its own, else of its group. Empty where
    /// the machine counts nothing.
    pub monitoring: Vec<MonitoringDomain>,
}

/// Of `info/L3`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct L3CacheInfo {
    /// The mask of the whole cache.
    pub cbm_mask: String,
    /// The fewest bits of a mask.
    pub min_cbm_bits: u64,
    /// How many groups there can be.
    pub num_closids: u64,
}

/// Of `info/MB`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemBwInfo {
    /// The steps of a share.
    pub bandwidth_gran: u64,
    /// Whether delays are linear.
    pub delay_linear: u64,
    /// The least share.
    pub min_bandwidth: u64,
    /// How many groups there can be.
    pub num_closids: u64,
}

/// What is counted for one cache; a figure that the machine does not have, or not now, is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MonitoringDomain {
    /// Its directory's name, as `mon_L3_00`.
    pub domain: String,
    /// The bytes that are in the cache.
    pub llc_occupancy: Option<u64>,
    /// The bytes that went to memory and came from it.
    pub mbm_total_bytes: Option<u64>,
    /// The same for the memory at hand.
    pub mbm_local_bytes: Option<u64>,
}

/// Reads it.
///
/// # Errors
/// A file is there and cannot be read, or has no number where one should be.
pub(crate) fn of(groups: &Groups) -> Result<IntelRdt> {
    let info = |name: &str| groups.root.join("info").join(name);
    let number = |files: Files<'_>, file: &str| files.number(file).map(Option::unwrap_or_default);
    let (l3, mb) = (info("L3"), info("MB"));
    let l3_cache_info = match Files::of(&l3).text("cbm_mask")? {
        None => None,
        Some(mask) => Some(L3CacheInfo {
            cbm_mask: mask.trim().to_owned(),
            min_cbm_bits: number(Files::of(&l3), "min_cbm_bits")?,
            num_closids: number(Files::of(&l3), "num_closids")?,
        }),
    };
    let mem_bw_info = match Files::of(&mb).number("min_bandwidth")? {
        None => None,
        Some(min_bandwidth) => Some(MemBwInfo {
            bandwidth_gran: number(Files::of(&mb), "bandwidth_gran")?,
            delay_linear: number(Files::of(&mb), "delay_linear")?,
            min_bandwidth,
            num_closids: number(Files::of(&mb), "num_closids")?,
        }),
    };
    let counted = groups.monitoring.as_ref().unwrap_or(&groups.group);
    Ok(IntelRdt {
        l3_cache_info,
        mem_bw_info,
        root_schemata: lines(&groups.root)?,
        schemata: lines(&groups.group)?,
        monitoring: monitoring(&counted.join("mon_data"))?,
    })
}

fn lines(group: &Path) -> Result<Vec<String>> {
    let text = Files::of(group).text("schemata")?.unwrap_or_default();
    Ok(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
}

fn monitoring(dir: &Path) -> Result<Vec<MonitoringDomain>> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(Vec::new()) };
    let mut domains = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(format!("read {}", dir.display()), &e))?;
        let path = entry.path();
        // The kernel says `Unavailable` and `Unassigned` where a counter has no figure now.
        let figure = |file: &str| -> Result<Option<u64>> {
            Ok(Files::of(&path).text(file)?.and_then(|text| text.trim().parse().ok()))
        };
        domains.push(MonitoringDomain {
            domain: entry.file_name().to_string_lossy().into_owned(),
            llc_occupancy: figure("llc_occupancy")?,
            mbm_total_bytes: figure("mbm_total_bytes")?,
            mbm_local_bytes: figure("mbm_local_bytes")?,
        });
    }
    domains.sort_by(|a, b| a.domain.cmp(&b.domain));
    Ok(domains)
}
