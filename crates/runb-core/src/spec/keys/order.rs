//! The order of keys in a text, which a parsed value does not have.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The keys of the object at `place`, as they follow each other in `text`. The keys on the way to it are taken in any case.
pub(super) fn of(text: &[u8], place: &[String]) -> Vec<String> {
    let mut keys = Vec::new();
    // A text that is wrong somewhere has been refused before.
    let _ = Walk { place, keys: &mut keys }.deserialize(&mut serde_json::Deserializer::from_slice(text));
    keys
}

struct Walk<'a> {
    place: &'a [String],
    keys: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match self.place {
                [step, rest @ ..] if step.eq_ignore_ascii_case(&key) => {
                    map.next_value_seed(Walk { place: rest, keys: self.keys })?;
                }
                [_, ..] => drop(map.next_value::<IgnoredAny>()?),
                [] => {
                    map.next_value::<IgnoredAny>()?;
                    self.keys.push(key);
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Some((step, rest)) = self.place.split_first() else { return items_left(items) };
        let Ok(wanted) = step.parse::<usize>() else { return items_left(items) };
        for _ in 0..wanted {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        items.next_element_seed(Walk { place: rest, keys: self.keys })?;
        items_left(items)
    }
}

fn items_left<'de, A: SeqAccess<'de>>(mut items: A) -> Result<(), A::Error> {
    while items.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}
