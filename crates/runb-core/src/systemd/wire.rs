//! Messages of D-Bus as bytes. The encoding is zbus's; a header is a structure of it as well.
//!
//! Source: D-Bus Specification, "Message Format" (it is 1.4x of dbus.freedesktop.org).

use serde::de::DeserializeOwned;
use serde::ser::{Serialize, SerializeStruct, Serializer};
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{Endian, to_bytes};
use zbus::{DynamicType, ObjectPath, Signature, Type, Variant};

/// What is before the header's fields, with their length: it tells how long a message is.
pub(super) const FIXED: usize = 16;

/// The longest message ("Message Format").
const LONGEST: usize = 1 << 27;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// Byte order, type, flags, version of the protocol, length of the body, serial, fields.
type Header<F> = (u8, u8, u8, u8, u32, u32, Vec<(u8, F)>);

/// The value of a header's field.
enum Field<'a> {
    Of(Variant<'a>),
    /// The types of a body, which is no structure: without parentheses, that a variant would have around them.
    Types(String),
}

impl Type for Field<'_> {
    const SIGNATURE: &'static Signature = &Signature::Variant;
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Field::Of(value) => value.serialize(serializer),
            Field::Types(types) => {
                let mut variant = serializer.serialize_struct("Variant", 2)?;
                variant.serialize_field("signature", &Signature::Signature)?;
                variant.serialize_field("value", types)?;
                variant.end()
            }
        }
    }
}

/// Which method is called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) name: &'a str,
}

/// A call with the arguments `body`, a tuple.
pub(super) fn call<B>(serial: u32, method: Method<'_>, body: &B) -> zbus::Result<Vec<u8>>
where
    B: Serialize + DynamicType,
{
    let (endian, order) = native();
    let arguments = to_bytes(Context::new(endian, 0), body)?;
    let mut fields = vec![
        (PATH, Field::Of(Variant::from(ObjectPath::try_from(method.path)?))),
        (INTERFACE, Field::Of(Variant::from(method.interface))),
        (MEMBER, Field::Of(Variant::from(method.name))),
        (DESTINATION, Field::Of(Variant::from(method.destination))),
    ];
    let types = body.signature().to_string_no_parens();
    if !types.is_empty() {
        fields.push((SIGNATURE, Field::Types(types)));
    }
    let length = u32::try_from(arguments.len()).map_err(|_| zbus::Error::ExcessData)?;
    let header: Header<Field<'_>> = (order, METHOD_CALL, 0, 1, length, serial, fields);
    let mut bytes = to_bytes(Context::new(endian, 0), &header)?.to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend_from_slice(&arguments);
    Ok(bytes)
}

fn native() -> (Endian, u8) {
    if cfg!(target_endian = "big") { (Endian::Big, b'B') } else { (Endian::Little, b'l') }
}

fn endian(order: u8) -> Option<Endian> {
    match order {
        b'l' => Some(Endian::Little),
        b'B' => Some(Endian::Big),
        _ => None,
    }
}

/// How long the whole message is that begins with these bytes; none if no message begins so.
pub(super) fn length(fixed: &[u8; FIXED]) -> Option<usize> {
    let number = |at: usize| {
        let bytes = [fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]];
        Some(match endian(fixed[0])? {
            Endian::Little => u32::from_le_bytes(bytes),
            Endian::Big => u32::from_be_bytes(bytes),
        } as usize)
    };
    let (body, fields) = (number(4)?, number(12)?);
    let whole = (FIXED + fields).next_multiple_of(8) + body;
    (whole <= LONGEST).then_some(whole)
}

/// A message that came.
#[derive(Debug)]
pub(super) enum Message {
    /// The answer to a call.
    Return { to: u32, body: Body },
    /// The refusal of a call.
    Error { to: u32, name: String, body: Body },
    /// A signal, by its name.
    Signal { member: String, body: Body },
    /// Something that nobody here waits for.
    Other,
}

/// What a message says, still as bytes.
#[derive(Debug)]
pub(super) struct Body {
    bytes: Vec<u8>,
    endian: Endian,
    signature: Option<Signature>,
}

impl Body {
    /// The arguments as a tuple.
    pub(super) fn read<T>(&self) -> zbus::Result<T>
    where
        T: DeserializeOwned + Type,
    {
        let sent = self.signature.as_ref().map_or_else(String::new, Signature::to_string_no_parens);
        let wanted = T::SIGNATURE;
        if sent != wanted.to_string_no_parens() {
            return Err(zbus::Error::SignatureMismatch(wanted.clone(), format!("\"{sent}\"")));
        }
        let data = Data::new(&self.bytes[..], Context::new(self.endian, 0));
        data.deserialize().map(|(value, _)| value)
    }
}

/// Reads a whole message.
pub(super) fn message(bytes: &[u8]) -> zbus::Result<Message> {
    let endian = bytes.first().copied().and_then(endian).ok_or(zbus::Error::IncorrectEndian)?;
    let data = Data::new(bytes, Context::new(endian, 0));
    let (header, used): (Header<Variant<'_>>, usize) = data.deserialize()?;
    let (_, kind, _, _, _, _, fields) = header;
    let (mut to, mut error, mut member, mut signature) = (None, None, None, None);
    for (code, value) in fields {
        match (code, value) {
            (REPLY_SERIAL, Variant::U32(serial)) => to = Some(serial),
            (ERROR_NAME, Variant::Str(name)) => error = Some(name.to_string()),
            (MEMBER, Variant::Str(name)) => member = Some(name.to_string()),
            (SIGNATURE, Variant::Signature(of_body)) => signature = Some(of_body),
            _ => {}
        }
    }
    let body = bytes.get(used.next_multiple_of(8)..).unwrap_or_default().to_vec();
    let body = Body { bytes: body, endian, signature };
    Ok(match (kind, to, error, member) {
        (METHOD_RETURN, Some(to), ..) => Message::Return { to, body },
        (ERROR, Some(to), Some(name), _) => Message::Error { to, name, body },
        (SIGNAL, _, _, Some(member)) => Message::Signal { member, body },
        _ => Message::Other,
    })
}
