//! `update`: other limits for a container that exists.

use anyhow::{Context as _, Result, bail};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};
use runb_core::container::{Container, Schemata, Updated};
use runb_core::input;
use runb_core::spec::{MAX_CONFIG, parse_resources};

use super::{Context, options};
use crate::args::Update;

/// How long the writer of a pipe may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Changes the limits.
pub fn run(args: &Update, context: &Context<'_>) -> Result<u8> {
    let container = Container::load(&options::root(context.global, context.environment)?, &args.id)?;
    let given = of_flags(args);
    let (change, warnings) = match &args.resources {
        None => (given, Vec::new()),
        Some(_) if given != LinuxResources::default() => {
            bail!("--resources takes no other limits beside it");
        }
        Some(file) => read(file)?,
    };
    context.warn(&warnings);
    let schemata =
        Schemata { l3_cache_schema: args.l3_cache_schema.clone(), mem_bw_schema: args.mem_bw_schema.clone() };
    let Updated { warnings, steps, .. } = container.update_with(&change, &schemata)?;
    context.report.steps(&steps);
    context.warn(&warnings);
    Ok(0)
}

fn read(file: &Path) -> Result<(LinuxResources, Vec<String>)> {
    if file != Path::new("-") {
        let text = input::read_or_pipe(file, MAX_CONFIG, Instant::now() + PATIENCE)
            .with_context(|| format!("open {}", file.display()))?;
        return Ok(parse_resources(&text, &file.display().to_string())?);
    }
    let mut text = Vec::new();
    let read = std::io::stdin().take(MAX_CONFIG + 1).read_to_end(&mut text);
    read.context("read from stdin")?;
    match text.len() as u64 > MAX_CONFIG {
        true => bail!("stdin has more than {MAX_CONFIG} bytes"),
        false => Ok(parse_resources(&text, "stdin")?),
    }
}

/// What the flags give; nothing where there is none of a part.
fn of_flags(args: &Update) -> LinuxResources {
    let mut cpu = LinuxCpu::default();
    cpu.set_period(args.cpu_period).set_quota(args.cpu_quota).set_burst(args.cpu_burst).set_shares(args.cpu_share);
    cpu.set_realtime_period(args.cpu_rt_period).set_realtime_runtime(args.cpu_rt_runtime).set_idle(args.cpu_idle);
    cpu.set_cpus(args.cpuset_cpus.clone()).set_mems(args.cpuset_mems.clone());
    let mut memory = LinuxMemory::default();
    memory.set_limit(args.memory).set_reservation(args.memory_reservation).set_swap(args.memory_swap);
    memory.set_kernel_tcp(args.kernel_memory_tcp);
    #[allow(deprecated, reason = "the flag is runc's; what the kernel does not do any more is an error")]
    memory.set_kernel(args.kernel_memory);
    let mut block_io = LinuxBlockIo::default();
    block_io.set_weight(args.blkio_weight);
    let mut resources = LinuxResources::default();
    resources.set_cpu(given(cpu)).set_memory(given(memory)).set_block_io(given(block_io));
    resources.set_pids(args.pids_limit.map(|limit| {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        pids
    }));
    resources
}

fn given<T: Default + PartialEq>(part: T) -> Option<T> {
    Some(part).filter(|part| *part != T::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_fields_of_the_resources_and_none_are_nothing() {
        assert_eq!(of_flags(&Update::default()), LinuxResources::default());
        let args = Update { memory: Some(5), cpu_idle: Some(0), pids_limit: Some(0), ..Update::default() };
        let json = serde_json::to_value(of_flags(&args)).unwrap();
        assert_eq!(json, serde_json::json!({"memory": {"limit": 5}, "cpu": {"idle": 0}, "pids": {"limit": 0}}));
    }
}
