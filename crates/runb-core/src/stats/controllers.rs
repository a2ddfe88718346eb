//! cpuset, pids, hugetlb, rdma, misc.

use std::collections::BTreeMap;
use std::fs;

use super::files::{Files, number};
use super::{Cpuset, Hugetlb, Misc, Pids, Rdma};
use crate::cgroup::Cgroup;
use crate::error::Result;

pub(super) fn cpuset_v1(files: Files<'_>) -> Result<Cpuset> {
    Ok(Cpuset {
        cpus: list(files, "cpuset.cpus")?,
        mems: list(files, "cpuset.mems")?,
        cpu_exclusive: files.number("cpuset.cpu_exclusive")?,
        mem_hardwall: files.number("cpuset.mem_hardwall")?,
        mem_exclusive: files.number("cpuset.mem_exclusive")?,
        memory_migrate: files.number("cpuset.memory_migrate")?,
        memory_spread_page: files.number("cpuset.memory_spread_page")?,
        memory_spread_slab: files.number("cpuset.memory_spread_slab")?,
        memory_pressure: files.number("cpuset.memory_pressure")?,
        sched_load_balance: files.number("cpuset.sched_load_balance")?,
        sched_relax_domain_level: files.signed("cpuset.sched_relax_domain_level")?,
    })
}

pub(super) fn cpuset_v2(files: Files<'_>) -> Result<Option<Cpuset>> {
    let found = Cpuset {
        cpus: list(files, "cpuset.cpus.effective")?,
        mems: list(files, "cpuset.mems.effective")?,
        ..Cpuset::default()
    };
    Ok((!found.cpus.is_empty()).then_some(found))
}

/// `0-3,7`.
fn list(files: Files<'_>, file: &str) -> Result<Vec<u32>> {
    let text = files.text(file)?.unwrap_or_default();
    numbers(text.trim()).ok_or_else(|| files.strange(file, text.trim()))
}

fn numbers(text: &str) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        found.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
    }
    Some(found)
}

pub(super) fn pids(files: Files<'_>) -> Result<Option<Pids>> {
    let Some(current) = files.number("pids.current")? else { return Ok(None) };
    Ok(Some(Pids { current, limit: files.limit("pids.max")? }))
}

/// What can be said of processes without the pids controller.
pub(super) fn counted(cgroup: &Cgroup) -> Result<Pids> {
    Ok(Pids { current: cgroup.procs()?.len() as u64, limit: None })
}

/// The sizes of huge pages that this machine has, as the hugetlb controller names them.
fn page_sizes() -> Vec<String> {
    let entries = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    entries.filter_map(|entry| page_size(entry.file_name().to_str()?)).collect()
}

/// `hugepages-2048kB` is `2MB` (hugetlb_cgroup.c, mem_fmt).
fn page_size(name: &str) -> Option<String> {
    let size: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match size {
        0x10_0000.. => format!("{}GB", size >> 20),
        0x400.. => format!("{}MB", size >> 10),
        _ => format!("{size}KB"),
    })
}

pub(super) fn hugetlb_v1(files: Files<'_>) -> Result<BTreeMap<String, Hugetlb>> {
    each_size(|size, part| {
        let name = |figure: &str| format!("hugetlb.{size}{part}.{figure}");
        let Some(usage) = files.number(&name("usage_in_bytes"))? else { return Ok(None) };
        Ok(Some(Hugetlb {
            usage,
            limit: files.limit(&name("limit_in_bytes"))?,
            peak: files.number(&name("max_usage_in_bytes"))?,
            failures: files.number(&name("failcnt"))?.unwrap_or(0),
        }))
    })
}

pub(super) fn hugetlb_v2(files: Files<'_>) -> Result<BTreeMap<String, Hugetlb>> {
    each_size(|size, part| {
        let Some(usage) = files.number(&format!("hugetlb.{size}{part}.current"))? else { return Ok(None) };
        let events = files.flat(&format!("hugetlb.{size}.events"))?.unwrap_or_default();
        let limit = files.limit(&format!("hugetlb.{size}{part}.max"))?;
        Ok(Some(Hugetlb { usage, limit, peak: None, failures: events.get("max").copied().unwrap_or(0) }))
    })
}

/// The figures of each size: of reservations (`.rsvd`, since Linux 5.7) or of use.
fn each_size(read: impl Fn(&str, &str) -> Result<Option<Hugetlb>>) -> Result<BTreeMap<String, Hugetlb>> {
    let mut found = BTreeMap::new();
    for size in page_sizes() {
        let figures = match read(&size, ".rsvd")? {
            None => read(&size, "")?,
            figures => figures,
        };
        found.extend(figures.map(|figures| (size, figures)));
    }
    Ok(found)
}

/// Lines of `DEVICE hca_handle=NUMBER hca_object=NUMBER`, with `max` for no limit.
pub(super) fn rdma(files: Files<'_>) -> Result<BTreeMap<String, Rdma>> {
    let mut found: BTreeMap<String, Rdma> = BTreeMap::new();
    let mut each = |file: &str, put: fn(&mut Rdma, &str, Option<u64>)| -> Result<()> {
        for line in files.text(file)?.unwrap_or_default().lines() {
            let mut words = line.split_whitespace();
            let Some(device) = words.next() else { continue };
            let entry = found.entry(device.to_owned()).or_default();
            words.filter_map(|word| word.split_once('=')).for_each(|(key, value)| put(entry, key, number(value)));
        }
        Ok(())
    };
    each("rdma.current", |entry, key, value| match key {
        "hca_handle" => entry.handles = value.unwrap_or(0),
        "hca_object" => entry.objects = value.unwrap_or(0),
        _ => {}
    })?;
    each("rdma.max", |entry, key, value| match key {
        "hca_handle" => entry.handle_limit = value,
        "hca_object" => entry.object_limit = value,
        _ => {}
    })?;
    Ok(found)
}

/// `NAME NUMBER` lines in misc.current; `NAME.max NUMBER` in misc.events.
pub(super) fn misc(files: Files<'_>) -> Result<BTreeMap<String, Misc>> {
    let events = files.flat("misc.events")?.unwrap_or_default();
    let limits = files.text("misc.max")?.unwrap_or_default();
    let limit = |name: &str| {
        limits.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).and_then(|word| number(word.trim()))
    };
    let current = files.flat("misc.current")?.unwrap_or_default();
    let one = |(name, usage): (String, u64)| {
        let failures = events.get(&format!("{name}.max")).copied().unwrap_or(0);
        let limit = limit(&name);
        (name, Misc { usage, limit, failures })
    };
    Ok(current.into_iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cpus_has_numbers_and_ranges() {
        assert_eq!(numbers("0-2,7"), Some(vec![0, 1, 2, 7]));
        assert_eq!(numbers(""), Some(vec![]));
        assert_eq!(numbers("0-x"), None);
    }

    #[test]
    fn the_sizes_of_huge_pages_are_named_as_the_controller_does() {
        let names = ["hugepages-64kB", "hugepages-2048kB", "hugepages-1048576kB", "other"];
        assert_eq!(names.map(page_size), [Some("64KB".into()), Some("2MB".into()), Some("1GB".into()), None]);
    }
}
