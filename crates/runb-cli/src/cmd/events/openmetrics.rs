//! Statistics as the text that Prometheus scrapes. Source: OpenMetrics 1.0; the names end in the base units that it demands.

use std::fmt::{Display, Write};

use runb_core::stats::{Cpu, Interface, IoEntry, Memory, Pressure, Stats};

const NANOSECOND: f64 = 1e-9;
const MICROSECOND: f64 = 1e-6;

/// One scrape.
pub fn text(id: &str, stats: &Stats) -> String {
    let mut page = Page { text: String::new(), id: escaped(id) };
    cpu(&mut page, &stats.cpu);
    if let Some(memory) = &stats.memory {
        of_memory(&mut page, memory);
    }
    if let Some(pids) = stats.pids {
        page.gauge("pids", "", "Processes and threads", [("", Some(pids.current))]);
        page.gauge("pids_limit", "", "How many there may be", [("", pids.limit)]);
    }
    io(&mut page, "io_bytes", "bytes", "Bytes from and to block devices", &stats.io.bytes);
    io(&mut page, "io_operations", "", "Requests to block devices", &stats.io.operations);
    counted(&mut page, stats);
    let waits = [
        ("cpu", stats.cpu.pressure),
        ("memory", stats.memory.as_ref().and_then(|m| m.pressure)),
        ("io", stats.io.pressure),
    ];
    pressure(&mut page, &waits);
    network(&mut page, stats.network.as_deref().unwrap_or_default());
    page.text.push_str("# EOF\n");
    page.text
}

struct Page {
    text: String,
    id: String,
}

impl Page {
    fn gauge<L: Display, V: Display>(
        &mut self,
        name: &str,
        unit: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, Option<V>)>,
    ) {
        self.family("gauge", name, unit, help, samples);
    }

    fn counter<L: Display, V: Display>(
        &mut self,
        name: &str,
        unit: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, Option<V>)>,
    ) {
        self.family("counter", name, unit, help, samples);
    }

    /// A family with a sample for each set of labels that has a figure; without any it is left out.
    fn family<L: Display, V: Display>(
        &mut self,
        kind: &str,
        name: &str,
        unit: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, Option<V>)>,
    ) {
        let suffix = if kind == "counter" { "_total" } else { "" };
        let mut begun = false;
        for (labels, value) in samples.into_iter().filter_map(|(labels, value)| Some((labels, value?))) {
            if !std::mem::replace(&mut begun, true) {
                let _ = writeln!(self.text, "# TYPE runb_{name} {kind}");
                if !unit.is_empty() {
                    let _ = writeln!(self.text, "# UNIT runb_{name} {unit}");
                }
                let _ = writeln!(self.text, "# HELP runb_{name} {help}");
            }
            let _ = writeln!(self.text, "runb_{name}{suffix}{{id=\"{}\"{labels}}} {value}", self.id);
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn label(name: &str, value: &str) -> String {
    format!(",{name}=\"{}\"", escaped(value))
}

fn cpu(page: &mut Page, cpu: &Cpu) {
    let seconds = |time: Option<u64>| time.map(|time| time as f64 * NANOSECOND);
    page.counter("cpu_seconds", "seconds", "CPU time", [("", seconds(cpu.total))]);
    let modes = [(label("mode", "user"), seconds(cpu.user)), (label("mode", "system"), seconds(cpu.system))];
    page.counter("cpu_mode_seconds", "seconds", "CPU time by mode", modes);
    let cores =
        cpu.per_cpu.iter().enumerate().map(|(i, core)| (label("cpu", &i.to_string()), seconds(Some(core.total))));
    page.counter("cpu_core_seconds", "seconds", "CPU time by CPU", cores);
    let Some(throttling) = cpu.throttling else { return };
    page.counter("cpu_periods", "", "Periods of the quota", [("", Some(throttling.periods))]);
    page.counter(
        "cpu_throttled_periods",
        "",
        "Periods in which the quota was used up",
        [("", Some(throttling.throttled_periods))],
    );
    page.counter(
        "cpu_throttled_seconds",
        "seconds",
        "Time held up by the quota",
        [("", seconds(Some(throttling.throttled_time)))],
    );
    page.counter("cpu_bursts", "", "Periods that ran beyond the quota", [("", throttling.bursts)]);
    page.counter("cpu_burst_seconds", "seconds", "Time beyond the quota", [("", seconds(throttling.burst_time))]);
}

fn of_memory(page: &mut Page, memory: &Memory) {
    let (all, swap) = (&memory.usage, &memory.swap);
    page.gauge("memory_usage_bytes", "bytes", "Memory in use, without swap", [("", Some(all.usage))]);
    page.gauge("memory_limit_bytes", "bytes", "How much may be", [("", all.limit)]);
    page.gauge("memory_peak_bytes", "bytes", "The most that ever was", [("", all.peak)]);
    page.counter("memory_limit_hits", "", "How often the limit was hit", [("", all.failures)]);
    page.gauge("memory_cache_bytes", "bytes", "Page cache", [("", Some(memory.cache))]);
    page.gauge("memory_swap_bytes", "bytes", "Swap in use", [("", swap.map(|swap| swap.usage))]);
    let both = memory.memory_and_swap.and_then(|both| both.limit);
    page.gauge("memory_and_swap_limit_bytes", "bytes", "How much of both may be in use", [("", both)]);
    page.gauge("memory_kernel_bytes", "bytes", "The kernel's part", [("", memory.kernel.map(|kernel| kernel.usage))]);
    page.counter("memory_oom_kills", "", "Processes that the out-of-memory killer took", [("", memory.oom_kills)]);
    let raw = memory.raw.iter().map(|(key, value)| (label("key", key), Some(*value)));
    page.family("unknown", "memory_stat", "", "What memory.stat has", raw);
}

/// Without the sums that version 1 has beside their parts.
fn io(page: &mut Page, name: &str, unit: &str, help: &str, entries: &[IoEntry]) {
    let parts = entries.iter().filter(|entry| matches!(entry.op.as_str(), "Read" | "Write" | "Discard"));
    let sample = |entry: &IoEntry| {
        let device = label("device", &format!("{}:{}", entry.major, entry.minor));
        (device + &label("op", &entry.op.to_lowercase()), Some(entry.value))
    };
    page.counter(name, unit, help, parts.map(sample));
}

fn counted(page: &mut Page, stats: &Stats) {
    let size = |size: &String| label("size", size);
    let huge = &stats.hugetlb;
    page.gauge("hugetlb_usage_bytes", "bytes", "Huge pages", huge.iter().map(|(name, h)| (size(name), Some(h.usage))));
    page.gauge("hugetlb_limit_bytes", "bytes", "How much may be", huge.iter().map(|(name, h)| (size(name), h.limit)));
    page.counter(
        "hugetlb_limit_hits",
        "",
        "How often the limit was hit",
        huge.iter().map(|(name, h)| (size(name), Some(h.failures))),
    );
    let device = |device: &String| label("device", device);
    let rdma = &stats.rdma;
    page.gauge("rdma_handles", "", "RDMA handles", rdma.iter().map(|(name, r)| (device(name), Some(r.handles))));
    page.gauge(
        "rdma_handles_limit",
        "",
        "How many there may be",
        rdma.iter().map(|(name, r)| (device(name), r.handle_limit)),
    );
    page.gauge("rdma_objects", "", "RDMA objects", rdma.iter().map(|(name, r)| (device(name), Some(r.objects))));
    page.gauge(
        "rdma_objects_limit",
        "",
        "How many there may be",
        rdma.iter().map(|(name, r)| (device(name), r.object_limit)),
    );
    let resource = |name: &String| label("resource", name);
    let misc = &stats.misc;
    page.gauge(
        "misc_usage",
        "",
        "What the misc controller counts",
        misc.iter().map(|(name, m)| (resource(name), Some(m.usage))),
    );
    page.gauge("misc_limit", "", "How much may be", misc.iter().map(|(name, m)| (resource(name), m.limit)));
    page.counter(
        "misc_limit_hits",
        "",
        "How often the limit was hit",
        misc.iter().map(|(name, m)| (resource(name), Some(m.failures))),
    );
}

fn pressure(page: &mut Page, waits: &[(&str, Option<Pressure>)]) {
    let seconds = |total: u64| total as f64 * MICROSECOND;
    let samples =
        waits.iter().filter_map(|(name, pressure)| Some((name, (*pressure)?))).flat_map(|(name, pressure)| {
            let labels = |kind| label("resource", name) + &label("kind", kind);
            let full = pressure.full.map(|full| seconds(full.total));
            [(labels("some"), Some(seconds(pressure.some.total))), (labels("full"), full)]
        });
    page.counter("pressure_seconds", "seconds", "Time lost in waiting", samples);
}

type Figure = fn(&Interface) -> u64;

fn network(page: &mut Page, interfaces: &[Interface]) {
    let families: [(&str, &str, &str, Figure); 8] = [
        ("network_receive_bytes", "bytes", "Bytes received", |i| i.rx_bytes),
        ("network_receive_packets", "", "Packets received", |i| i.rx_packets),
        ("network_receive_errors", "", "Errors in receiving", |i| i.rx_errors),
        ("network_receive_drops", "", "Received packets that were dropped", |i| i.rx_dropped),
        ("network_transmit_bytes", "bytes", "Bytes sent", |i| i.tx_bytes),
        ("network_transmit_packets", "", "Packets sent", |i| i.tx_packets),
        ("network_transmit_errors", "", "Errors in sending", |i| i.tx_errors),
        ("network_transmit_drops", "", "Packets that were dropped instead of sent", |i| i.tx_dropped),
    ];
    for (name, unit, help, figure) in families {
        page.counter(name, unit, help, interfaces.iter().map(|i| (label("interface", &i.name), Some(figure(i)))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(json: &str) -> Stats {
        let mut whole: serde_json::Value = serde_json::from_str(
            r#"{"version":1,"cgroup_version":2,"cpu":{"per_cpu":[]},"cpuset":null,"memory":null,"pids":null,"io":{"bytes":[],
            "operations":[],"queued":[],"service_time":[],"wait_time":[],"merged":[],"time":[],"sectors":[]},"hugetlb":{},
            "rdma":{},"misc":{},"network":null}"#,
        )
        .unwrap();
        let change: serde_json::Value = serde_json::from_str(json).unwrap();
        for (key, value) in change.as_object().unwrap() {
            whole[key] = value.clone();
        }
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn a_family_has_type_unit_help_and_a_sample_with_the_suffix_of_its_type() {
        let text =
            text("a\"b", &stats(r#"{"pids":{"current":3,"limit":null},"cpu":{"total":1500000000,"per_cpu":[]}}"#));
        let expected = "# TYPE runb_cpu_seconds counter\n# UNIT runb_cpu_seconds seconds\n# HELP runb_cpu_seconds CPU time\n\
                        runb_cpu_seconds_total{id=\"a\\\"b\"} 1.5\n\
                        # TYPE runb_pids gauge\n# HELP runb_pids Processes and threads\nrunb_pids{id=\"a\\\"b\"} 3\n# EOF\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_sums_of_version_1_are_not_beside_their_parts() {
        let entry = |op: &str, value: u64| format!(r#"{{"major":8,"minor":0,"op":"{op}","value":{value}}}"#);
        let list = [entry("Read", 1), entry("Sync", 1), entry("Total", 1)].join(",");
        let io = format!(
            r#"{{"io":{{"bytes":[{list}],"operations":[],"queued":[],"service_time":[],"wait_time":[],"merged":[],"time":[],"sectors":[]}}}}"#
        );
        let text = text("c", &stats(&io));
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples, [r#"runb_io_bytes_total{id="c",device="8:0",op="read"} 1"#]);
    }
}
