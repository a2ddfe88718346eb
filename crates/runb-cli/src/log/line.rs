//! A line of the log, looked at without being read: what it takes to pass over a million of them.

use std::borrow::Cow;

use memchr::memmem;

use crate::record::quote;

/// What kind of line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A call.
    Call,
    /// The end of one.
    Exit,
    /// About the log.
    Note,
    /// What was done on the way.
    Debug,
}

/// What a line says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// All of it.
    pub raw: &'a [u8],
    /// RFC 3339, as all of runb's times are; they compare as texts.
    pub time: &'a str,
    /// The invocation.
    pub invocation: &'a str,
    /// What kind it is.
    pub kind: Kind,
}

/// How long a time is.
const TIME: usize = "2026-11-22T18:00:00.123456+00:00".len();

impl<'a> Line<'a> {
    /// Looks at a line; none if runb did not write it. What a full disk cut short may stand before it on the same line.
    pub fn look(raw: &'a [u8]) -> Option<Self> {
        Line::at_begin(raw).or_else(|| {
            let at = memmem::rfind(raw, b"+00:00] ").map(|end| end.checked_sub(TIME - 5))?;
            Line::at_begin(&raw[at?..]).filter(|line| line.raw.len() < raw.len())
        })
    }

    fn at_begin(raw: &'a [u8]) -> Option<Self> {
        match raw.first()? {
            b'[' => Line::text(raw),
            b'{' => Line::json(raw),
            _ => None,
        }
    }

    fn text(raw: &'a [u8]) -> Option<Self> {
        let time = std::str::from_utf8(raw.get(1..=TIME)?).ok()?;
        let rest = raw.get(TIME + 1..)?.strip_prefix(b"] ")?;
        let kind = Kind::of(rest.split(|byte| *byte == b' ').next()?)?;
        // A mark that no argument can be.
        let mark = memmem::rfind(raw, b" # ")?;
        let end = &raw[mark + 3..];
        let end = end.split(|byte| *byte == b' ').next()?;
        Some(Line { raw, time, invocation: std::str::from_utf8(end).ok()?, kind })
    }

    /// runb writes these first, and in this order.
    fn json(raw: &'a [u8]) -> Option<Self> {
        let (time, rest) = string(raw.strip_prefix(b"{\"time\":\"")?)?;
        let (invocation, rest) = string(rest.strip_prefix(b",\"invocation\":\"")?)?;
        let (kind, _) = string(rest.strip_prefix(b",\"event\":\"")?)?;
        Some(Line { raw, time, invocation, kind: Kind::of(kind.as_bytes())? })
    }

    /// A field of an exit, if it is one of those that stand in any order of characters without an escape; else none.
    pub fn field(&self, name: &str) -> Option<Cow<'a, str>> {
        if self.raw[0] == b'{' {
            let key = format!("\"{name}\":");
            let at = memmem::find(self.raw, key.as_bytes())? + key.len();
            let mut values = serde_json::Deserializer::from_slice(&self.raw[at..]).into_iter::<serde_json::Value>();
            return match values.next()?.ok()? {
                serde_json::Value::String(text) => Some(Cow::Owned(text)),
                other => Some(Cow::Owned(other.to_string())),
            };
        }
        Fields { rest: self.raw.get(TIME + 3 + "exit runb: ".len()..)? }
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }
}

/// The text up to a quotation mark, and what is behind it; none if there is an escape in it.
fn string(text: &[u8]) -> Option<(&str, &[u8])> {
    let end = memchr::memchr2(b'"', b'\\', text)?;
    if text[end] == b'\\' {
        return None;
    }
    Some((std::str::from_utf8(&text[..end]).ok()?, &text[end + 1..]))
}

impl Kind {
    fn of(word: &[u8]) -> Option<Self> {
        match word {
            b"call" => Some(Kind::Call),
            b"exit" => Some(Kind::Exit),
            b"note" => Some(Kind::Note),
            b"debug" => Some(Kind::Debug),
            _ => None,
        }
    }
}

/// The fields of an exit line, one after the other.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        let word_end = self.word()?;
        let (word, rest) = self.rest.split_at(word_end);
        self.rest = rest.strip_prefix(b" ").unwrap_or(rest);
        let (name, value) = std::str::from_utf8(word).ok()?.split_once('=')?;
        let value = match value.as_bytes() {
            [b'$', ..] => Cow::Owned(quote::read_word(value)?),
            [b'\'', ..] => Cow::Borrowed(value.trim_matches('\'')),
            _ => Cow::Borrowed(value),
        };
        Some((name, value))
    }
}

impl Fields<'_> {
    /// Where the next word ends: quotes are passed over.
    fn word(&self) -> Option<usize> {
        let text = self.rest;
        if text.is_empty() || text[0] == b'#' {
            return None;
        }
        let mut at = 0;
        while at < text.len() && text[at] != b' ' {
            match text[at] {
                b'$' if text.get(at + 1) == Some(&b'\'') => {
                    at += 2;
                    while *text.get(at)? != b'\'' {
                        at += if text[at] == b'\\' { 2 } else { 1 };
                    }
                    at += 1;
                }
                b'\'' => at += 2 + memchr::memchr(b'\'', &text[at + 1..])?,
                _ => at += 1,
            }
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[2026-11-22T18:00:00.123456+00:00] exit runb: verb=create container='a b' status=1 error=$'x\\' status=0 # 1-1' # 17-2b";

    #[test]
    fn a_line_of_text_is_looked_at_without_being_read() {
        let line = Line::look(TEXT.as_bytes()).unwrap();
        assert_eq!((line.time, line.invocation, line.kind), ("2026-11-22T18:00:00.123456+00:00", "17-2b", Kind::Exit));
        assert_eq!(line.field("container").as_deref(), Some("a b"));
        assert_eq!(line.field("status").as_deref(), Some("1"));
        assert_eq!(line.field("error").as_deref(), Some("x' status=0 # 1-1"));
        assert_eq!(line.field("nothing"), None);
    }

    #[test]
    fn a_line_of_json_is_looked_at_likewise() {
        let text = "{\"time\":\"t\",\"invocation\":\"17-2b\",\"event\":\"exit\",\"verb\":\"create\",\"container\":\"a\\\"b\",\"status\":1}";
        let line = Line::look(text.as_bytes()).unwrap();
        assert_eq!((line.time, line.invocation, line.kind), ("t", "17-2b", Kind::Exit));
        assert_eq!(line.field("container").as_deref(), Some("a\"b"));
        assert_eq!(line.field("status").as_deref(), Some("1"));
    }

    #[test]
    fn a_line_behind_one_that_was_cut_short_is_found() {
        let text = format!("[2026-11-22T18:00:00.1{TEXT}");
        assert_eq!(Line::look(text.as_bytes()).unwrap().invocation, "17-2b");
        for other in ["", "[", "{", "[2026-11-22T18:00:00.123456+00:00] exit", "hello"] {
            assert_eq!(Line::look(other.as_bytes()), None, "{other}");
        }
    }
}
