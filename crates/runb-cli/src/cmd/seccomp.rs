//! `seccomp`: the compiled filter of a bundle, or what it says to a system call.

use anyhow::{Context as _, Result, anyhow, bail};
use runb_core::host::Host;
use runb_core::plan;
use runb_core::plan::seccomp::{self, Abi, Filter, Native};
use runb_core::spec::Bundle;
use serde_json::json;

use super::{Context, options};
use crate::args::Seccomp;

/// Prints it; nothing is done, and no right is needed.
pub fn run(args: &Seccomp, context: &Context<'_>) -> Result<u8> {
    if args.syscall.is_none() && args.arch.is_some() {
        bail!("--arch is of a system call that is asked about; none is given");
    }
    let dir = options::absolute(args.bundle.clone().unwrap_or_else(|| ".".into()))?;
    let filter = plan::filter(&Bundle::load(&dir)?.spec, &Host::probe()?)?;
    let text = match (filter, &args.syscall) {
        (None, _) if args.json => "null\n".to_owned(),
        (None, _) => "linux.seccomp is not set: every system call passes\n".to_owned(),
        (Some(filter), None) => listing(&filter, args),
        (Some(filter), Some(name)) => verdict(&filter, name, args)?,
    };
    context.print(&text)?;
    Ok(0)
}

fn listing(filter: &Filter, args: &Seccomp) -> String {
    if !args.json {
        return seccomp::explain(filter);
    }
    let whole = json!({
        "instructions": filter.instructions.iter().map(|instruction| instruction.0).collect::<Vec<_>>(),
        "flags": filter.flags.0,
        "listener": filter.listener.as_ref().map(|listener| &listener.path),
        "architectures": filter.abis.iter().map(|abi| abi.name()).collect::<Vec<_>>(),
        "listing": seccomp::explain(filter).lines().collect::<Vec<_>>(),
    });
    format!("{whole:#}\n")
}

fn verdict(filter: &Filter, name: &str, args: &Seccomp) -> Result<String> {
    let verdict = seccomp::verdict(filter, abi(args.arch.as_deref())?, name, arguments(&args.arguments)?)?;
    if !args.json {
        return Ok(format!("{verdict}\n"));
    }
    let whole = json!({
        "action": verdict.action.to_string(),
        "instructions": verdict.instructions,
        "verdict": verdict.to_string(),
    });
    Ok(format!("{whole:#}\n"))
}

fn abi(name: Option<&str>) -> Result<Abi> {
    match name {
        Some(name) => Abi::named(name).with_context(|| format!("--arch: {name:?} is not an architecture of runb")),
        None => Native::of_build().map(Native::abi).context("--arch must be given here"),
    }
}

/// Up to six numbers.
fn arguments(words: &[String]) -> Result<[u64; 6]> {
    let mut arguments = [0; 6];
    if words.len() > arguments.len() {
        bail!("a system call has 6 arguments, not {}", words.len());
    }
    for (argument, word) in arguments.iter_mut().zip(words) {
        let parsed = match word.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => word.parse(),
        };
        *argument = parsed.map_err(|_| anyhow!("{word:?} is no number, decimal or 0x…"))?;
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Result<[u64; 6]> {
        arguments(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_decimal_or_hexadecimal_and_missing_ones_are_zero() {
        assert_eq!(words(&["7", "0xffffffffffffffff"]).unwrap(), [7, u64::MAX, 0, 0, 0, 0]);
    }

    #[test]
    fn an_argument_that_is_no_number_and_a_seventh_one_are_refused() {
        assert_eq!(words(&["x"]).unwrap_err().to_string(), "\"x\" is no number, decimal or 0x…");
        assert_eq!(words(&["1"; 7]).unwrap_err().to_string(), "a system call has 6 arguments, not 7");
    }

    #[test]
    fn an_architecture_is_the_machines_own_unless_named() {
        assert_eq!(abi(Some("x32")).unwrap(), Abi::X32);
        assert_eq!(abi(None).ok(), Native::of_build().map(Native::abi));
        assert!(abi(Some("vax")).is_err());
    }
}
