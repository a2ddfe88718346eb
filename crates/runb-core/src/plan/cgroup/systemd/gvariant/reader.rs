//! From a text to its parts.

use zbus::Signature;

use super::{Node, Parsed, Type};

/// How deep values may lie in each other: what D-Bus allows of arrays, and of structures.
const DEEPEST: u32 = 32;

/// Reads the one value of a text.
pub(super) fn read(text: &str) -> Parsed<Node> {
    let mut reader = Reader { rest: text, depth: 0 };
    let node = reader.node()?;
    reader.skip_space();
    if reader.rest.is_empty() { Ok(node) } else { Err(format!("{:?} follows the value", reader.rest)) }
}

struct Reader<'t> {
    rest: &'t str,
    depth: u32,
}

impl Reader<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes `sign`, if it comes next.
    fn takes(&mut self, sign: char) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, sign: char) -> Parsed<()> {
        if self.takes(sign) { Ok(()) } else { Err(format!("{sign:?} is expected before {:?}", self.rest)) }
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_owned()
    }

    fn node(&mut self) -> Parsed<Node> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!("it lies deeper than {DEEPEST}"));
        }
        let node = self.any();
        self.depth -= 1;
        node
    }

    fn any(&mut self) -> Parsed<Node> {
        self.skip_space();
        let mut signs = self.rest.chars();
        match (signs.next(), signs.next()) {
            (None, _) => Err("a value is expected at the end".to_owned()),
            (Some('['), _) => self.list('[', ']').map(Node::Array),
            (Some('('), _) => self.tuple(),
            (Some('{'), _) => self.dict(),
            (Some('<'), _) => {
                self.expect('<')?;
                let inner = self.node()?;
                self.expect('>')?;
                Ok(Node::Variant(Box::new(inner)))
            }
            (Some('\'' | '"'), _) => self.string().map(Node::Text),
            (Some('b'), Some('\'' | '"')) => self.bytes().map(Node::Bytes),
            (Some('@'), _) => {
                self.expect('@')?;
                let text = self.word(|c| !c.is_whitespace());
                let signature = Signature::try_from(text.as_str()).map_err(|e| format!("@{text}: {e}"))?;
                Ok(Node::Typed(Type::Known(signature), Box::new(self.node()?)))
            }
            (Some(sign), _) if sign.is_ascii_digit() || "+-.".contains(sign) => Ok(Node::Number(self.number())),
            _ => self.keyword(),
        }
    }

    /// Letters belong to it as well: 0x1f, 1e-3; those that do not are found when its type is known.
    fn number(&mut self) -> String {
        let mut before = ' ';
        let end = self.rest.char_indices().find(|&(_, c)| {
            let sign = "+-".contains(c) && (before == ' ' || "eE".contains(before));
            before = c;
            !(c.is_ascii_alphanumeric() || c == '.' || sign)
        });
        let (number, rest) = self.rest.split_at(end.map_or(self.rest.len(), |(at, _)| at));
        self.rest = rest;
        number.to_owned()
    }

    fn keyword(&mut self) -> Parsed<Node> {
        let before = self.rest;
        let word = self.word(|c| c.is_ascii_alphanumeric());
        let known = match word.as_str() {
            "true" => return Ok(Node::Bool(true)),
            "false" => return Ok(Node::Bool(false)),
            "inf" | "nan" => return Ok(Node::Number(word)),
            "boolean" => Signature::Bool,
            "byte" => Signature::U8,
            "int16" => Signature::I16,
            "uint16" => Signature::U16,
            "int32" => Signature::I32,
            "uint32" => Signature::U32,
            "int64" => Signature::I64,
            "uint64" => Signature::U64,
            "double" => Signature::F64,
            "string" => Signature::Str,
            "objectpath" => Signature::ObjectPath,
            "signature" => Signature::Signature,
            _ => return Err(format!("{before:?} is neither a value nor a type that D-Bus has")),
        };
        Ok(Node::Typed(Type::Known(known), Box::new(self.node()?)))
    }

    fn list(&mut self, begin: char, end: char) -> Parsed<Vec<Node>> {
        self.expect(begin)?;
        let mut items = Vec::new();
        while !self.takes(end) {
            if !items.is_empty() {
                self.expect(',')?;
                // One element and a comma is a tuple.
                if begin == '(' && self.takes(end) {
                    break;
                }
            }
            items.push(self.node()?);
        }
        Ok(items)
    }

    fn tuple(&mut self) -> Parsed<Node> {
        let items = self.list('(', ')')?;
        if items.is_empty() { Err("D-Bus has no empty tuple".to_owned()) } else { Ok(Node::Tuple(items)) }
    }

    fn dict(&mut self) -> Parsed<Node> {
        self.expect('{')?;
        let mut entries = Vec::new();
        while !self.takes('}') {
            if !entries.is_empty() {
                self.expect(',')?;
            }
            let key = self.node()?;
            self.expect(':')?;
            entries.push((key, self.node()?));
        }
        Ok(Node::Dict(entries))
    }

    fn sign(&mut self) -> Parsed<char> {
        let sign = self.rest.chars().next().ok_or("a quote is not closed")?;
        self.rest = &self.rest[sign.len_utf8()..];
        Ok(sign)
    }

    fn digits(&mut self, count: usize, radix: u32) -> Parsed<u32> {
        let digits = self.rest.get(..count).unwrap_or(self.rest);
        let number = u32::from_str_radix(digits, radix).ok().filter(|_| digits.len() == count);
        let number = number.ok_or_else(|| format!("{digits:?} is not {count} digits of an escape"))?;
        self.rest = &self.rest[count..];
        Ok(number)
    }

    fn string(&mut self) -> Parsed<String> {
        let quote = self.sign()?;
        let mut text = String::new();
        loop {
            match self.sign()? {
                sign if sign == quote => return Ok(text),
                '\\' => match self.sign()? {
                    '\n' => {}
                    'u' => text.push(self.character(4)?),
                    'U' => text.push(self.character(8)?),
                    sign => text.push(control(sign)),
                },
                sign => text.push(sign),
            }
        }
    }

    fn character(&mut self, digits: usize) -> Parsed<char> {
        let number = self.digits(digits, 16)?;
        char::from_u32(number).filter(|c| *c != '\0').ok_or_else(|| format!("U+{number:X} is no character of a text"))
    }

    /// A byte string; its value ends with a 0.
    fn bytes(&mut self) -> Parsed<Vec<u8>> {
        self.expect('b')?;
        let quote = self.sign()?;
        let mut bytes = Vec::new();
        loop {
            match self.sign()? {
                sign if sign == quote => break,
                '\\' if self.rest.starts_with(|c: char| c.is_digit(8)) => {
                    let octal = self.digits(3, 8)?;
                    bytes.push(u8::try_from(octal).map_err(|_| format!("\\{octal:o} is more than a byte"))?);
                }
                '\\' => match self.sign()? {
                    '\n' => {}
                    sign => bytes.extend(control(sign).to_string().bytes()),
                },
                sign => bytes.extend(sign.to_string().bytes()),
            }
        }
        bytes.push(0);
        Ok(bytes)
    }
}

fn control(sign: char) -> char {
    match sign {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        sign => sign,
    }
}
