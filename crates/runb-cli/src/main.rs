//! The `runb` command: runc's verbs over runb-core, and the invocation log.
#![cfg_attr(not(test), no_main)]

mod args;
mod argv;
mod cmd;
mod config;
mod environment;
mod log;
mod output;
mod record;
mod report;

use std::ffi::OsString;
use std::path::Path;

use args::{Parsed, Request};
use cmd::Context;
use config::Settings;
use environment::Environment;
use record::account::Account;
use report::Report;
use runb_core::{Heap, Stdout};

/// The C library's malloc and free took a third of the instructions of a `create` (docs/decisions/heap.md).
#[global_allocator]
static HEAP: Heap = Heap;

/// The C library calls it directly: Rust's own start costs 60 µs (it reads /proc/self/maps for a guard page), a tenth of what
/// `state` takes. What it would have done and is needed, [`runb_core::begin_process`] does.
#[cfg(not(test))]
#[allow(unsafe_code, reason = "the name by which the C library calls it, and no other symbol has it")]
#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    i32::from(call(runb_core::begin_process()))
}

/// Does what the command line says; returns the exit status.
#[cfg_attr(test, allow(dead_code))]
fn call(stdout: Stdout) -> u8 {
    let argv: Vec<OsString> = std::env::args_os().skip(1).collect();
    let environment = Environment::read();
    let parsed = args::parse(&argv);
    let settings = Settings::read(&parsed.global, &environment, Path::new(config::FILE));
    let record = record::begin(settings.clone(), &argv, parsed.own_length, parsed.verb.as_deref());
    let account = Account::since(record.began());
    let report = Report::new(&parsed.global, parsed.verb.as_deref(), parsed.id.as_deref(), account);
    report.debug(&format!("runb {} called", env!("CARGO_PKG_VERSION")));
    let context = Context {
        global: &parsed.global,
        environment: &environment,
        settings: &settings,
        report: &report,
        meanwhile: record.meanwhile(),
        stdout,
    };
    let (status, error) = run(&parsed, &context, &report);
    report.debug(&format!("exit status {status} after {:?}", record.elapsed()));
    record.end((parsed.verb, parsed.id), (status, error), report.account());
    status
}

/// Does what is asked for and prints what went wrong; returns the exit status and the error's text.
fn run(parsed: &Parsed, context: &Context<'_>, report: &Report) -> (u8, Option<String>) {
    let result = match &parsed.request {
        Ok(Request::Print(text)) => context.print(text).map(|()| 0),
        Ok(Request::Verb(verb)) => cmd::run(verb, context),
        Err(usage) => return (usage.code, Some(report.failure(&usage.text, &[]))),
    };
    match result {
        Ok(status) => (status, None),
        Err(error) => (report::exit_code(parsed.verb.as_deref()), Some(report.error(&error))),
    }
}
