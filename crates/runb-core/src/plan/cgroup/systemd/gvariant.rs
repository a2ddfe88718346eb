//! The text syntax of GVariant, as far as D-Bus has its types. Source: "GVariant Text Format" of GLib's documentation.
//!
//! A text is read first, and then given a type: a number without one is an `int32`, unless another element of its array says
//! otherwise.

mod reader;

use std::collections::BTreeMap;

use zbus::{Array, Dict, ObjectPath, Signature, Structure, Variant};

type Parsed<T> = Result<T, String>;

/// The value of a text.
pub(super) fn parse(text: &str) -> Parsed<Variant<'static>> {
    let node = reader::read(text)?;
    let signature = signature(&infer(&node)?)?;
    build(&node, &signature)
}

#[derive(Debug)]
enum Node {
    Number(String),
    Bool(bool),
    Text(String),
    Bytes(Vec<u8>),
    Array(Vec<Node>),
    Tuple(Vec<Node>),
    Dict(Vec<(Node, Node)>),
    Variant(Box<Node>),
    Typed(Type, Box<Node>),
}

/// What is known of a type.
#[derive(Clone, Debug, PartialEq)]
enum Type {
    Unknown,
    Number,
    Text,
    Known(Signature),
    Array(Box<Type>),
    Dict(Box<Type>, Box<Type>),
    Tuple(Vec<Type>),
}

/// What a text alone says of its type.
fn infer(node: &Node) -> Parsed<Type> {
    Ok(match node {
        Node::Number(text) if is_double(text) => Type::Known(Signature::F64),
        Node::Number(_) => Type::Number,
        Node::Bool(_) => Type::Known(Signature::Bool),
        Node::Text(_) => Type::Text,
        Node::Bytes(_) => Type::Known(Signature::array(Signature::U8)),
        Node::Variant(_) => Type::Known(Signature::Variant),
        Node::Array(items) => Type::Array(Box::new(common(items.iter())?)),
        Node::Tuple(items) => Type::Tuple(items.iter().map(infer).collect::<Parsed<_>>()?),
        Node::Dict(entries) => Type::Dict(
            Box::new(common(entries.iter().map(|(key, _)| key))?),
            Box::new(common(entries.iter().map(|(_, value)| value))?),
        ),
        Node::Typed(known, _) => known.clone(),
    })
}

fn is_double(text: &str) -> bool {
    let hexadecimal = text.trim_start_matches(['+', '-']).starts_with("0x");
    !hexadecimal && text.contains(['.', 'e', 'E', 'n'])
}

/// The type that all have.
fn common<'n>(nodes: impl Iterator<Item = &'n Node>) -> Parsed<Type> {
    nodes.map(infer).try_fold(Type::Unknown, |common, next| unify(common, next?))
}

fn unify(a: Type, b: Type) -> Parsed<Type> {
    Ok(match (a, b) {
        (Type::Unknown, other) | (other, Type::Unknown) => other,
        (a, b) if a == b => a,
        (Type::Number, Type::Known(known)) | (Type::Known(known), Type::Number) if is_number(&known) => {
            Type::Known(known)
        }
        (Type::Text, Type::Known(known)) | (Type::Known(known), Type::Text) if is_text(&known) => Type::Known(known),
        (Type::Array(a), Type::Array(b)) => Type::Array(Box::new(unify(*a, *b)?)),
        (Type::Dict(a, x), Type::Dict(b, y)) => Type::Dict(Box::new(unify(*a, *b)?), Box::new(unify(*x, *y)?)),
        (Type::Tuple(a), Type::Tuple(b)) if a.len() == b.len() => {
            Type::Tuple(a.into_iter().zip(b).map(|(a, b)| unify(a, b)).collect::<Parsed<_>>()?)
        }
        // A type that is named in full beside one that is not.
        (Type::Known(known), partial @ (Type::Array(_) | Type::Dict(..) | Type::Tuple(_)))
        | (partial @ (Type::Array(_) | Type::Dict(..) | Type::Tuple(_)), Type::Known(known)) => {
            unify(partial, spread(&known)?)?
        }
        (a, b) => return Err(format!("{a:?} and {b:?} are no elements of one array")),
    })
}

/// A container's signature as a type of parts.
fn spread(signature: &Signature) -> Parsed<Type> {
    let known = |signature: &Signature| Type::Known(signature.clone());
    Ok(match signature {
        Signature::Array(child) => Type::Array(Box::new(known(child.signature()))),
        Signature::Dict { key, value } => {
            Type::Dict(Box::new(known(key.signature())), Box::new(known(value.signature())))
        }
        Signature::Structure(fields) => Type::Tuple(fields.iter().map(known).collect()),
        other => return Err(format!("a container is no {other}")),
    })
}

fn is_number(signature: &Signature) -> bool {
    use Signature::{F64, I16, I32, I64, U8, U16, U32, U64};
    matches!(signature, U8 | I16 | U16 | I32 | U32 | I64 | U64 | F64)
}

fn is_text(signature: &Signature) -> bool {
    matches!(signature, Signature::Str | Signature::ObjectPath | Signature::Signature)
}

/// What is still open becomes what GVariant takes without a word.
fn signature(known: &Type) -> Parsed<Signature> {
    Ok(match known {
        Type::Unknown => return Err("the type of an empty array is not known: say it with \"@\"".to_owned()),
        Type::Number => Signature::I32,
        Type::Text => Signature::Str,
        Type::Known(known) => known.clone(),
        Type::Array(element) => Signature::array(signature(element)?),
        Type::Dict(key, value) => {
            let key = signature(key)?;
            if !(is_number(&key) || is_text(&key) || key == Signature::Bool) {
                return Err(format!("{key} is no type of a key"));
            }
            Signature::dict(key, signature(value)?)
        }
        Type::Tuple(fields) => {
            Signature::structure(fields.iter().map(signature).collect::<Parsed<Vec<_>>>()?.into_boxed_slice())
        }
    })
}

fn build(node: &Node, wanted: &Signature) -> Parsed<Variant<'static>> {
    let mismatch = || format!("{node:?} is no {wanted}");
    Ok(match (node, wanted) {
        (Node::Typed(known, inner), _) => {
            let known = signature(known)?;
            if known != *wanted {
                return Err(format!("{known} is no {wanted}"));
            }
            build(inner, &known)?
        }
        (Node::Number(text), _) => number(text, wanted)?,
        (Node::Bool(value), Signature::Bool) => Variant::from(*value),
        (Node::Text(text), Signature::Str) if !text.contains('\0') => Variant::from(text.clone()),
        (Node::Text(text), Signature::ObjectPath) => {
            ObjectPath::try_from(text.clone()).map(Variant::from).map_err(|e| format!("{text:?}: {e}"))?
        }
        (Node::Text(text), Signature::Signature) => {
            Signature::try_from(text.as_str()).map(Variant::from).map_err(|e| format!("{text:?}: {e}"))?
        }
        (Node::Bytes(bytes), Signature::Array(element)) if *element.signature() == Signature::U8 => {
            Variant::from(bytes.clone())
        }
        (Node::Variant(inner), Signature::Variant) => {
            let inner_signature = signature(&infer(inner)?)?;
            Variant::Variant(Box::new(build(inner, &inner_signature)?))
        }
        (Node::Array(items), Signature::Array(element)) => {
            let mut array = Array::new(element.signature());
            for item in items {
                array.append(build(item, element.signature())?).map_err(|e| e.to_string())?;
            }
            Variant::Array(array)
        }
        (Node::Dict(entries), Signature::Dict { key, value }) => {
            let built: BTreeMap<_, _> = entries
                .iter()
                .map(|(k, v)| Ok((build(k, key.signature())?, build(v, value.signature())?)))
                .collect::<Parsed<_>>()?;
            let mut dict = Dict::new(key.signature(), value.signature());
            for (key, value) in built {
                dict.append(key, value).map_err(|e| e.to_string())?;
            }
            Variant::Dict(dict)
        }
        (Node::Tuple(items), Signature::Structure(fields)) if items.len() == fields.iter().count() => {
            let mut structure = Structure::builder();
            for (item, field) in items.iter().zip(fields.iter()) {
                structure = structure.append_field(build(item, field)?);
            }
            Variant::Structure(structure.build().map_err(|e| e.to_string())?)
        }
        _ => return Err(mismatch()),
    })
}

/// Decimal, hexadecimal after 0x, octal after 0.
fn number(text: &str, wanted: &Signature) -> Parsed<Variant<'static>> {
    let wrong = || format!("{text:?} is no {wanted}");
    if *wanted == Signature::F64 {
        return text.parse::<f64>().map(Variant::from).map_err(|_| wrong());
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = match (digits.strip_prefix("0x"), digits.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        _ => (digits, 10),
    };
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let magnitude = i128::from(u64::from_str_radix(digits, radix).map_err(|_| wrong())?);
    let value = if negative { -magnitude } else { magnitude };
    let variant = match wanted {
        Signature::U8 => u8::try_from(value).map(Variant::from),
        Signature::I16 => i16::try_from(value).map(Variant::from),
        Signature::U16 => u16::try_from(value).map(Variant::from),
        Signature::I32 => i32::try_from(value).map(Variant::from),
        Signature::U32 => u32::try_from(value).map(Variant::from),
        Signature::I64 => i64::try_from(value).map(Variant::from),
        Signature::U64 => u64::try_from(value).map(Variant::from),
        _ => return Err(wrong()),
    };
    variant.map_err(|_| wrong())
}

#[cfg(test)]
mod tests;
