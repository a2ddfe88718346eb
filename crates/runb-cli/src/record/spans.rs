//! To an OpenTelemetry collector, by a file in OTLP's JSON form (one request a line, as its file receiver reads it): a call is a span, its
//! phases are the span's children.

use std::collections::HashMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::entry::Exit;

/// The annotations that may hold a trace, as W3C's traceparent.
const ANNOTATIONS: [&str; 3] = ["traceparent", "io.opentelemetry.traceparent", "org.opentelemetry.traceparent"];

/// What a span belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// 32 hexadecimal digits.
    pub id: String,
    /// The span that it is a child of, 16 hexadecimal digits.
    pub parent: Option<String>,
}

impl Trace {
    /// That which the engine gave in the annotations; else one of the container's own, so that all its calls are in one.
    pub fn of(annotations: &HashMap<String, String>, own: Option<&str>, container: &str) -> Self {
        let keys = own.into_iter().chain(ANNOTATIONS);
        let given = keys.filter_map(|key| annotations.get(key)).find_map(|text| parse(text));
        given.unwrap_or_else(|| Trace { id: hex(&["trace", container], 16), parent: None })
    }
}

/// `00-TRACE-PARENT-FLAGS` (W3C Trace Context, "traceparent").
fn parse(text: &str) -> Option<Trace> {
    let parts: Vec<&str> = text.split('-').collect();
    let [version, id, parent, _flags, ..] = parts.as_slice() else { return None };
    let is_id = |id: &str, length| {
        id.len() == length && id.bytes().all(|b| b.is_ascii_hexdigit()) && id.bytes().any(|b| b != b'0')
    };
    let known = version.len() == 2 && *version != "ff";
    (known && is_id(id, 32) && is_id(parent, 16))
        .then(|| Trace { id: id.to_lowercase(), parent: Some(parent.to_lowercase()) })
}

/// An id made of texts, of so many bytes.
fn hex(texts: &[&str], length: usize) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().take(length).map(|byte| format!("{byte:02x}")).collect()
}

/// The line of a call that began at `began` nanoseconds since 1970.
pub fn line(invocation: &str, began: u128, exit: &Exit, argv: &[String], trace: &Trace) -> String {
    let verb = exit.verb.as_deref().unwrap_or("?");
    let time = |seconds: f64| (began + (seconds.max(0.0) * 1e9) as u128).to_string();
    // A process id and a part of the minute are not enough: spans are kept for long.
    let own = hex(&["span", invocation, &began.to_string()], 8);
    let mut attributes = vec![
        attribute("runb.invocation", invocation),
        attribute("process.exit.code", &exit.status.to_string()),
        attribute("runb.caller", &exit.caller.comm),
        attribute("process.command_args", &argv.join(" ")),
    ];
    let failure = exit.failure.clone().unwrap_or_default();
    let more = [
        ("container.id", &exit.container),
        ("container.name", &exit.names.container),
        ("k8s.pod.name", &exit.names.pod),
        ("k8s.namespace.name", &exit.names.namespace),
        ("runb.bundle", &exit.bundle),
        ("runb.config.sha256", &exit.config),
        ("runb.error.place", &failure.place),
        ("runb.error.call", &failure.call),
        ("error.type", &failure.errno),
    ];
    attributes.extend(more.iter().filter_map(|(key, value)| Some(attribute(key, value.as_deref()?))));
    let status = match &exit.error {
        Some(error) => json!({"code": 2, "message": error}),
        None => json!({}),
    };
    // 1 is SPAN_KIND_INTERNAL, 2 SPAN_KIND_SERVER.
    let mut spans = vec![json!({
        "traceId": trace.id, "spanId": own, "parentSpanId": trace.parent.as_deref().unwrap_or(""),
        "name": format!("runb {verb}"), "kind": 2,
        "startTimeUnixNano": time(0.0), "endTimeUnixNano": time(exit.seconds),
        "attributes": attributes, "status": status,
    })];
    spans.extend(exit.phases.iter().enumerate().map(|(i, phase)| {
        json!({
            "traceId": trace.id, "spanId": hex(&["phase", &own, &i.to_string()], 8), "parentSpanId": own,
            "name": phase.name, "kind": 1,
            "startTimeUnixNano": time(phase.at), "endTimeUnixNano": time(phase.at + phase.seconds),
        })
    }));
    let resource = json!({"attributes": [attribute("service.name", "runb"), attribute("service.version", env!("CARGO_PKG_VERSION"))]});
    let scope = json!({"scope": {"name": "runb"}, "spans": spans});
    format!("{}\n", json!({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}))
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::entry::Phase;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_is_the_engines_where_it_gives_one_else_the_containers() {
        let given = HashMap::from([("traceparent".to_owned(), GIVEN.to_owned())]);
        let trace = Trace::of(&given, None, "web1");
        assert_eq!(
            (trace.id.as_str(), trace.parent.as_deref()),
            ("4bf92f3577b34da6a3ce929d0e0e4736", Some("00f067aa0ba902b7"))
        );
        let own = HashMap::from([("x".to_owned(), GIVEN.to_owned())]);
        assert_eq!(Trace::of(&own, Some("x"), "web1"), trace);
        let none = HashMap::from([("traceparent".to_owned(), "00-0-0-0".to_owned())]);
        let made = Trace::of(&none, None, "web1");
        assert_eq!(made, Trace::of(&HashMap::new(), None, "web1"));
        assert!(made.id.len() == 32 && made.parent.is_none() && made != Trace::of(&none, None, "web2"));
    }

    #[test]
    fn a_call_is_a_span_and_its_phases_are_the_children() {
        let phase = |name: &str, at, seconds| Phase { name: name.into(), at, seconds };
        let exit = Exit {
            verb: Some("create".into()),
            seconds: 0.003,
            error: Some("no".into()),
            phases: vec![phase("reading", 0.0, 0.001), phase("spawn", 0.001, 0.002)],
            ..Exit::default()
        };
        let line = line("1-1", 5_000_000_000, &exit, &[], &Trace { id: "ab".into(), parent: Some("cd".into()) });
        let line: Value = line.parse().unwrap();
        let spans = line["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
        let [call, reading, spawn] = spans.as_slice() else { panic!("{line:#}") };
        assert_eq!(
            (&call["traceId"], &call["parentSpanId"], &call["status"]["code"]),
            (&json!("ab"), &json!("cd"), &json!(2))
        );
        assert_eq!(
            (&call["startTimeUnixNano"], &call["endTimeUnixNano"]),
            (&json!("5000000000"), &json!("5003000000"))
        );
        for child in [reading, spawn] {
            assert_eq!(child["parentSpanId"], call["spanId"]);
            assert_eq!(child["spanId"].as_str().map(str::len), Some(16));
        }
        assert_eq!(
            (&spawn["startTimeUnixNano"], &spawn["endTimeUnixNano"]),
            (&json!("5001000000"), &json!("5003000000"))
        );
    }
}
