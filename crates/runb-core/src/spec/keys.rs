//! Keys that differ from those of the specification in case alone. runc reads JSON by Go's encoding/json, which takes a key in
//! any case, so that such configurations are in use: they are to mean here what they mean there.
//!
//! What the keys are is told by the types themselves, which hand serde the names of their fields.

mod order;

use serde::de::value::StringDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Value};

use std::cell::RefCell;

/// Keys that are to have another name.
struct Wrong {
    /// The object that they are in: keys and indices.
    object: Vec<String>,
    keys: Vec<String>,
    name: &'static str,
}

/// Gives keys of `value` the case that `T` has them in, and returns each place with its sentence. Where a key is there in
/// several forms the later ones in `text`, which `value` was read from, add to the earlier.
pub(super) fn rename<T: DeserializeOwned>(value: &mut Value, text: &[u8]) -> Vec<String> {
    let found = RefCell::new(Vec::new());
    // Where it fails it has seen what comes before: the caller, who finds the same fault, may come back.
    let _ = T::deserialize(Reader { value, place: Vec::new(), found: &found });
    let renamed = found.into_inner().into_iter().filter_map(|wrong: Wrong| {
        let object = wrong.object.iter().try_fold(&mut *value, |value, step| match value {
            Value::Array(list) => step.parse().ok().and_then(|index: usize| list.get_mut(index)),
            other => other.get_mut(step),
        })?;
        let object = object.as_object_mut()?;
        // What the text does not have was put there since, for want of it.
        let mut forms = vec![wrong.name.to_owned()];
        forms.extend(wrong.keys.iter().cloned());
        if forms.iter().filter(|form| object.contains_key(*form)).count() > 1 {
            let order = order::of(text, &wrong.object);
            forms.sort_by_key(|form| order.iter().rposition(|key| key == form));
        }
        let contents = forms.iter().filter_map(|form| object.remove(form));
        let content = contents.reduce(added)?;
        object.insert(wrong.name.to_owned(), content);
        let said = |key| format!("{}{key} is read as {}", prefix(&wrong.object), wrong.name);
        Some(wrong.keys.iter().map(said).collect::<Vec<_>>())
    });
    renamed.flatten().collect()
}

/// What a field has that is given twice: of objects the fields of both, else the later.
fn added(earlier: Value, later: Value) -> Value {
    match (earlier, later) {
        (Value::Object(mut fields), Value::Object(later)) => {
            for (key, value) in later {
                let value = match fields.remove(&key) {
                    Some(earlier) => added(earlier, value),
                    None => value,
                };
                fields.insert(key, value);
            }
            Value::Object(fields)
        }
        (_, later) => later,
    }
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
        let unknown: Vec<&String> = object.keys().filter(|key| !fields.contains(&key.as_str())).collect();
        for name in fields {
            let nearly = unknown.iter().filter(|key| name.eq_ignore_ascii_case(key));
            let keys: Vec<String> = nearly.map(|key| (*key).clone()).collect();
            if !keys.is_empty() {
                self.found.borrow_mut().push(Wrong { object: self.place.clone(), keys, name });
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
        let text = value.to_string();
        let said = rename::<Spec>(&mut value, text.as_bytes());
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
        assert_eq!(rename::<Spec>(&mut value, text.as_bytes()), Vec::<String>::new());
    }

    /// What `text` becomes.
    fn renamed(text: &str) -> Value {
        let mut value = serde_json::from_str(text).expect(text);
        while !rename::<Spec>(&mut value, text.as_bytes()).is_empty() {}
        value
    }

    #[test]
    fn a_key_that_nobody_knows_stays() {
        let text = r#"{"ociVersion":"1.0.2","fromTheFuture":1,"FROMTHEFUTURE":2}"#;
        assert_eq!(renamed(text), serde_json::from_str::<Value>(text).expect(text));
    }

    #[test]
    fn of_a_key_in_several_forms_the_later_adds_to_the_earlier() {
        assert_eq!(renamed(r#"{"hostname":"a","HOSTNAME":"b"}"#), json!({"hostname": "b"}));
        assert_eq!(renamed(r#"{"HOSTNAME":"b","hostname":"a"}"#), json!({"hostname": "a"}));
        assert_eq!(renamed(r#"{"HOSTNAME":"b","hostname":"a","HostName":"c"}"#), json!({"hostname": "c"}));
        let both = |resources: &str| renamed(&format!(r#"{{"linux":{{"resources":{resources}}}}}"#));
        assert_eq!(
            both(r#"{"cpu":{"shares":5,"cpus":"1"},"CPU":{"Cpus":"0","Mems":"0"}}"#),
            json!({"linux": {"resources": {"cpu": {"shares": 5, "cpus": "0", "mems": "0"}}}})
        );
        assert_eq!(
            both(r#"{"CPU":{"Cpus":"0","Mems":"0"},"cpu":{"shares":5,"cpus":"1"}}"#),
            json!({"linux": {"resources": {"cpu": {"shares": 5, "cpus": "1", "mems": "0"}}}})
        );
        let lists = r#"{"mounts":[{"destination":"/a"}],"Mounts":[{"destination":"/b","Options":["ro"],"options":["rw"]}]}"#;
        assert_eq!(renamed(lists), json!({"mounts": [{"destination": "/b", "options": ["rw"]}]}));
    }

    #[test]
    fn what_was_put_there_for_want_of_a_key_gives_way_to_it_in_another_case() {
        let mut value = json!({"process": {"user": {"uid": 0}, "USER": {"uid": 7}}});
        rename::<Spec>(&mut value, br#"{"process":{"USER":{"uid":7}}}"#);
        assert_eq!(value, json!({"process": {"user": {"uid": 7}}}));
    }
}
