//! Which calls are asked for.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use anyhow::{Result, anyhow};
use memchr::memmem;

use super::calls::{Call, Outcome, micros};
use super::line::Line;
use crate::args::Log;
use crate::record::entry::{Exit, timestamp};

/// The most containers that are remembered by their names.
const NAMED: usize = 1 << 16;

/// Which calls are asked for; what is empty asks for nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    container: Option<String>,
    /// The containers whose name is the one that is asked for.
    named: HashSet<String>,
    verbs: Vec<String>,
    caller: Option<String>,
    since: Option<String>,
    until: Option<String>,
    failed: Option<Outcome>,
    slower: Option<Duration>,
}

impl Filter {
    /// As the flags say; times go by `now`.
    ///
    /// # Errors
    /// A time or a duration is none.
    pub fn new(args: &Log, container: Option<&str>, now: SystemTime) -> Result<Self> {
        let time = |flag: &str, text: &Option<String>| text.as_deref().map(|text| time(flag, text, now)).transpose();
        let slower = args.slower.as_deref().map(|text| duration("--slower", text)).transpose()?;
        Ok(Filter {
            container: container.or(args.container.as_deref()).map(str::to_owned),
            named: HashSet::new(),
            verbs: args.verb.clone(),
            caller: args.caller.clone(),
            since: time("--since", &args.since)?,
            until: time("--until", &args.until)?,
            failed: args.failed.then_some(Outcome::Failed),
            slower,
        })
    }

    /// All that concerns a container.
    #[cfg(test)]
    pub fn of_container(container: &str) -> Self {
        Filter { container: Some(container.to_owned()), ..Filter::default() }
    }

    /// Whether what is of then began too early.
    pub fn is_too_old(&self, time: &str) -> bool {
        self.since.as_deref().is_some_and(|since| time < since)
    }

    /// Whether remarks are of interest: where calls in general are.
    pub fn takes_notes(&self, time: &str) -> bool {
        let all = self.container.is_none() && self.verbs.is_empty() && self.caller.is_none() && self.slower.is_none();
        all && self.failed.is_none() && !self.is_too_old(time) && self.until.as_deref().is_none_or(|until| time < until)
    }

    /// Whether the call that ends by this line may pass: what can be told of the line without reading it.
    pub fn may_pass(&self, line: &Line<'_>) -> bool {
        let has = |text: &str| memmem::find(line.raw, text.as_bytes()).is_some();
        if self.is_too_old(line.time) || self.failed.is_some() && !has("error") {
            return false;
        }
        // An escaped word is not found so.
        if let Some(container) = &self.container
            && container.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
            && !has(container)
            && !line.field("container").is_some_and(|id| self.named.contains(id.as_ref()))
        {
            return false;
        }
        if !self.verbs.is_empty() && !line.field("verb").is_some_and(|verb| self.verbs.iter().any(|one| *one == verb)) {
            return false;
        }
        let slow = |least: Duration| {
            line.field("seconds")
                .and_then(|text| text.parse::<f64>().ok())
                .is_some_and(|took| took > least.as_secs_f64())
        };
        self.slower.is_none_or(slow)
    }

    /// Whether a call is asked for. Of one that is known by a name the id is remembered: later calls have only that.
    pub fn passes(&mut self, call: &Call) -> bool {
        if self.is_too_old(&call.time) || self.until.as_deref().is_some_and(|until| call.time.as_str() >= until) {
            return false;
        }
        let exit = call.exit.as_ref().map(|(_, exit)| exit);
        if let Some(asked) = &self.container
            && !is_of(asked, call, exit, &mut self.named)
        {
            return false;
        }
        if !self.verbs.is_empty() && !self.verbs.iter().any(|verb| verb == call.verb()) {
            return false;
        }
        if self.failed.is_some() && !matches!(call.outcome(), Outcome::Failed | Outcome::Killed) {
            return false;
        }
        if self.slower.is_some_and(|least| call.seconds().is_none_or(|took| took <= least.as_secs_f64())) {
            return false;
        }
        self.caller.as_deref().is_none_or(|asked| exit.is_some_and(|exit| is_by(asked, exit)))
    }
}

/// Whether a call concerns the container that is asked for.
fn is_of(asked: &str, call: &Call, exit: Option<&Exit>, named: &mut HashSet<String>) -> bool {
    let id = call.container();
    if id.is_some_and(|id| id.starts_with(asked) || named.contains(id)) {
        return true;
    }
    let Some((exit, id)) = exit.zip(id) else { return false };
    let names = &exit.names;
    let own = |name: &Option<String>| name.as_deref() == Some(asked);
    let both = || {
        names.pod.as_deref().zip(names.container.as_deref()).is_some_and(|(pod, own)| asked == format!("{pod}/{own}"))
    };
    let sandbox = names.sandbox.as_deref().is_some_and(|sandbox| sandbox.starts_with(asked));
    let is_named = own(&names.container) || own(&names.pod) || sandbox || both();
    if is_named && named.len() < NAMED {
        named.insert(id.to_owned());
    }
    is_named
}

/// Whether a call was made by the one that is asked for.
fn is_by(asked: &str, exit: &Exit) -> bool {
    let caller = &exit.caller;
    caller.comm == asked
        || caller.unit.as_deref() == Some(asked)
        || caller.pid.to_string() == asked
        || caller.parent.as_ref().is_some_and(|parent| parent.comm == asked || parent.pid.to_string() == asked)
}

/// A time in the log's form, of how long ago it was or of itself.
fn time(flag: &str, text: &str, now: SystemTime) -> Result<String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(timestamp(now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH)));
    }
    if micros(text).is_some() && text.ends_with("+00:00") {
        return Ok(text.to_owned());
    }
    let wrong = || anyhow!("{flag} {text:?}: it is how long ago (10m), or a time (2026-11-22T18:00:00Z)");
    humantime::parse_rfc3339_weak(text).map(timestamp).map_err(|_| wrong())
}

fn duration(flag: &str, text: &str) -> Result<Duration> {
    humantime::parse_duration(text).map_err(|_| anyhow!("{flag} {text:?}: it is a duration, as 20ms"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::entry::{Caller, Names, Parent};

    fn call(exit: Exit) -> Call {
        Call {
            invocation: "1-1".into(),
            time: "2026-11-22T18:00:00.000000+00:00".into(),
            argv: vec!["create".into()],
            exit: Some(("2026-11-22T18:00:00.100000+00:00".into(), exit)),
            ..Call::default()
        }
    }

    fn filter(args: Log) -> Filter {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_370_400 + 600);
        Filter::new(&args, None, now).unwrap()
    }

    #[test]
    fn a_container_is_known_by_the_beginning_of_its_id_or_a_name_and_then_by_its_id() {
        let names = Names {
            container: Some("web".into()),
            pod: Some("shop-0".into()),
            sandbox: Some("feed".into()),
            ..Names::default()
        };
        let created = call(Exit { container: Some("abc123".into()), names, ..Exit::default() });
        let killed = call(Exit { verb: Some("kill".into()), container: Some("abc123".into()), ..Exit::default() });
        for asked in ["abc", "abc123", "web", "shop-0", "shop-0/web", "fe"] {
            let mut filter = Filter::of_container(asked);
            assert!(filter.passes(&created) && filter.passes(&killed), "{asked}");
        }
        for asked in ["we", "bc", "shop", "abc1234"] {
            assert!(!Filter::of_container(asked).passes(&created), "{asked}");
        }
    }

    #[test]
    fn failures_slow_calls_verbs_callers_and_times_are_told_from_others() {
        let exit = Exit {
            verb: Some("create".into()),
            seconds: 0.030,
            error: Some("no".into()),
            caller: Caller {
                pid: 7,
                comm: "shim".into(),
                parent: Some(Parent { pid: 1, comm: "systemd".into() }),
                unit: Some("x.service".into()),
                ..Caller::default()
            },
            ..Exit::default()
        };
        let passes = |args: Log| filter(args).passes(&call(exit.clone()));
        let text = |text: &str| Some(text.to_owned());
        assert!(passes(Log { failed: true, slower: text("20ms"), verb: vec!["create".into()], ..Log::default() }));
        assert!(!passes(Log { slower: text("31ms"), ..Log::default() }));
        assert!(!passes(Log { verb: vec!["start".into()], ..Log::default() }));
        for caller in ["shim", "7", "systemd", "x.service"] {
            assert!(passes(Log { caller: text(caller), ..Log::default() }), "{caller}");
        }
        assert!(!passes(Log { caller: text("she"), ..Log::default() }));
        for (since, until, expected) in [("11m", "5m", true), ("9m", "5m", false), ("20m", "15m", false)] {
            assert_eq!(
                passes(Log { since: text(since), until: text(until), ..Log::default() }),
                expected,
                "{since} {until}"
            );
        }
        assert!(passes(Log { since: text("2026-11-22T18:00:00Z"), ..Log::default() }));
        assert!(passes(Log { since: text("2026-11-22 17:00:00"), ..Log::default() }));
        let mut done = call(Exit { error: None, ..exit.clone() });
        assert!(!filter(Log { failed: true, ..Log::default() }).passes(&done));
        done.exit = None;
        done.invocation = "4194304-1".into();
        assert!(filter(Log { failed: true, ..Log::default() }).passes(&done));
    }

    #[test]
    fn what_is_no_time_is_refused_with_the_flag() {
        let wrong = |args: Log| Filter::new(&args, None, SystemTime::now()).unwrap_err().to_string();
        assert!(wrong(Log { since: Some("yesterday".into()), ..Log::default() }).starts_with("--since \"yesterday\""));
        assert!(wrong(Log { slower: Some("20".into()), ..Log::default() }).starts_with("--slower \"20\""));
    }
}
