//! `intel_rdt` of an event, as runc has it: nothing where there is no such thing.

use runb_core::stats::{IntelRdt, MonitoringDomain};
use serde::Serialize;

use super::zero;

#[derive(Default, Serialize)]
pub(super) struct IntelRdtData<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    l3_cache_info: Option<L3CacheData<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    l3_cache_schema_root: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    l3_cache_schema: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mem_bw_info: Option<MemBwData>,
    #[serde(skip_serializing_if = "str::is_empty")]
    mem_bw_schema_root: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    mem_bw_schema: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    schemata: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    mbm_stats: Option<Vec<MbmData>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmt_stats: Option<Vec<CmtData>>,
}

#[derive(Serialize)]
struct L3CacheData<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    cbm_mask: &'a str,
    #[serde(skip_serializing_if = "zero")]
    min_cbm_bits: u64,
    #[serde(skip_serializing_if = "zero")]
    num_closids: u64,
}

#[derive(Serialize)]
struct MemBwData {
    #[serde(skip_serializing_if = "zero")]
    bandwidth_gran: u64,
    #[serde(skip_serializing_if = "zero")]
    delay_linear: u64,
    #[serde(skip_serializing_if = "zero")]
    min_bandwidth: u64,
    #[serde(skip_serializing_if = "zero")]
    num_closids: u64,
}

#[derive(Serialize)]
struct MbmData {
    #[serde(skip_serializing_if = "zero")]
    mbm_total_bytes: u64,
    #[serde(skip_serializing_if = "zero")]
    mbm_local_bytes: u64,
}

#[derive(Serialize)]
struct CmtData {
    #[serde(skip_serializing_if = "zero")]
    llc_occupancy: u64,
}

pub(super) fn data(rdt: &IntelRdt) -> IntelRdtData<'_> {
    fn line<'a>(lines: &'a [String], resource: &str) -> &'a str {
        lines.iter().rev().find(|line| line.contains(resource)).map_or("", String::as_str)
    }
    let counted = |domain: &MonitoringDomain| domain.mbm_total_bytes.is_some() || domain.mbm_local_bytes.is_some();
    let mbm = rdt.monitoring.iter().any(counted).then(|| {
        let data = |domain: &MonitoringDomain| MbmData {
            mbm_total_bytes: domain.mbm_total_bytes.unwrap_or_default(),
            mbm_local_bytes: domain.mbm_local_bytes.unwrap_or_default(),
        };
        rdt.monitoring.iter().map(data).collect()
    });
    let cmt = rdt.monitoring.iter().any(|domain| domain.llc_occupancy.is_some()).then(|| {
        let data = |domain: &MonitoringDomain| CmtData { llc_occupancy: domain.llc_occupancy.unwrap_or_default() };
        rdt.monitoring.iter().map(data).collect()
    });
    let (l3, mb) = (rdt.l3_cache_info.as_ref(), rdt.mem_bw_info.as_ref());
    IntelRdtData {
        l3_cache_info: l3.map(|info| L3CacheData {
            cbm_mask: &info.cbm_mask,
            min_cbm_bits: info.min_cbm_bits,
            num_closids: info.num_closids,
        }),
        l3_cache_schema_root: l3.map_or("", |_| line(&rdt.root_schemata, "L3")),
        l3_cache_schema: l3.map_or("", |_| line(&rdt.schemata, "L3")),
        mem_bw_info: mb.map(|info| MemBwData {
            bandwidth_gran: info.bandwidth_gran,
            delay_linear: info.delay_linear,
            min_bandwidth: info.min_bandwidth,
            num_closids: info.num_closids,
        }),
        mem_bw_schema_root: mb.map_or("", |_| line(&rdt.root_schemata, "MB")),
        mem_bw_schema: mb.map_or("", |_| line(&rdt.schemata, "MB")),
        schemata: &rdt.schemata,
        mbm_stats: mbm,
        cmt_stats: cmt,
    }
}
