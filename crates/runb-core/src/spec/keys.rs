//! Keys that differ from those of the specification in case alone. runc reads JSON by Go's encoding/json, which takes a key in
//! any case, so that such configurations are in use: they are to mean here what they mean there.
//!
//! What the keys are is told by the types themselves, which hand serde the names of their fields.

use serde::de::value::StringDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Value};

use std::cell::RefCell;

/// A key that is to have another name.
struct Wrong {
    /// The object that it is in: keys and indices.
    object: Vec<String>,
    key: String,
    name: &'static str,
}

/// Gives keys of `value` the case that `T` has them in, and returns each place with its sentence. A key that is there in both
/// forms stays.
pub(super) fn rename<T: DeserializeOwned>(value: &mut Value) -> Vec<String> {
    let found = RefCell::new(Vec::new());
    // Where it fails it has seen what comes before: the caller, who finds the same fault, may come back.
    let _ = T::deserialize(Reader { value, place: Vec::new(), found: &found });
    let renamed = found.into_inner().into_iter().filter_map(|wrong: Wrong| {
        let object = wrong.object.iter().try_fold(&mut *value, |value, step| match value {
            Value::Array(list) => step.parse().ok().and_then(|index: usize| list.get_mut(index)),
            other => other.get_mut(step),
        })?;
        let object = object.as_object_mut()?;
        let content = object.remove(&wrong.key)?;
        object.insert(wrong.name.to_owned(), content);
        Some(format!("{}{} is read as {}", prefix(&wrong.object), wrong.key, wrong.name))
    });
    renamed.collect()
}

/// `mounts[0].` of the steps to an object.
fn prefix(steps: &[String]) -> String {
    let mut text = String::new();
    for step in steps {
        match step.parse::<usize>() {
            Ok(index) if !text.is_empty() => {
                text.pop();
                text += &format!("[{index}].");
            }
            _ => text += &format!("{step}."),
        }
    }
    text
}

/// A value that tells which of its keys only nearly have a name that is asked for.
struct Reader<'v, 'f> {
    value: &'v Value,
    place: Vec<String>,
    found: &'f RefCell<Vec<Wrong>>,
}

impl Reader<'_, '_> {
    fn look(&self, object: &Map<String, Value>, fields: &'static [&'static str]) {
        for key in object.keys().filter(|key| !fields.contains(&key.as_str())) {
            let name = fields.iter().find(|field| field.eq_ignore_ascii_case(key) && !object.contains_key(**field));
            if let Some(name) = name {
                self.found.borrow_mut().push(Wrong { object: self.place.clone(), key: key.clone(), name });
            }
        }
    }

    fn child<'c>(&'c self, step: String, value: &'c Value) -> Reader<'c, 'c> {
        let mut place = self.place.clone();
        place.push(step);
        Reader { value, place, found: self.found }
    }
}

impl<'de> Deserializer<'de> for Reader<'_, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(object) => {
                let entries = object.iter();
                visitor.visit_map(Entries { of: &self, entries, content: None })
            }
            Value::Array(list) => visitor.visit_seq(Items { of: &self, items: list.iter().enumerate() }),
            plain => plain.clone().deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if let Value::Object(object) = self.value {
            self.look(object, fields);
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.value.clone().deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

struct Entries<'v> {
    of: &'v Reader<'v, 'v>,
    entries: serde_json::map::Iter<'v>,
    content: Option<(&'v String, &'v Value)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.content = self.entries.next();
        let key = self.content.map(|(key, _)| StringDeserializer::new(key.clone()));
        key.map(|key| seed.deserialize(key)).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, value) = self.content.take().ok_or_else(|| Error::custom("a value without its key"))?;
        seed.deserialize(self.of.child(key.clone(), value))
    }
}

struct Items<'v> {
    of: &'v Reader<'v, 'v>,
    items: std::iter::Enumerate<std::slice::Iter<'v, Value>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let item = self.items.next().map(|(index, value)| self.of.child(index.to_string(), value));
        item.map(|item| seed.deserialize(item)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Spec;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_that_differs_in_case_alone_is_renamed_wherever_a_type_has_a_name_for_it() {
        let mut value = json!({
            "ociVersion": "1.0.2",
            "Hostname": "web",
            "annotations": {"Path": "as it is"},
            "mounts": [{"destination": "/a", "OPTIONS": ["ro"]}],
            "linux": {"sysctl": {"Limit": "1"}, "resources": {"hugepageLimits": [{"pagesize": "2MB", "Limit": 1}]}},
        });
        let said = rename::<Spec>(&mut value);
        assert_eq!(value["linux"]["resources"]["hugepageLimits"][0], json!({"pageSize": "2MB", "limit": 1}));
        assert_eq!((&value["hostname"], &value["mounts"][0]["options"]), (&json!("web"), &json!(["ro"])));
        assert_eq!(value["annotations"], json!({"Path": "as it is"}));
        assert_eq!(value["linux"]["sysctl"], json!({"Limit": "1"}));
        let place = "linux.resources.hugepageLimits[0].";
        let expected = [
            "Hostname is read as hostname".to_owned(),
            format!("{place}Limit is read as limit"),
            format!("{place}pagesize is read as pageSize"),
            "mounts[0].OPTIONS is read as options".to_owned(),
        ];
        let mut said = said;
        said.sort();
        assert_eq!(said, expected);
        assert_eq!(rename::<Spec>(&mut value), Vec::<String>::new());
    }

    #[test]
    fn a_key_that_is_there_in_both_forms_and_one_that_nobody_knows_stay() {
        let both = json!({"ociVersion": "1.0.2", "hostname": "a", "HOSTNAME": "b", "fromTheFuture": 1});
        let mut value = both.clone();
        assert_eq!(rename::<Spec>(&mut value), Vec::<String>::new());
        assert_eq!(value, both);
    }
}
