//! Attributes of spans, resources and events.

use std::fmt;
use std::ops::Index;

use serde::{Deserialize, Serialize};

use super::Value;

/// Attributes, sorted by key. Most spans have a few, so they lie side by side.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attributes(Box<[(String, Value)]>);

impl Attributes {
    /// None.
    pub fn new() -> Attributes {
        Attributes::default()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let at = self.0.binary_search_by(|(other, _)| other.as_str().cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// All of them, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// All keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.iter().map(|(key, _)| key)
    }

    /// Sets one.
    pub fn insert(&mut self, key: String, value: Value) {
        let all = std::mem::take(&mut self.0).into_vec().into_iter();
        *self = all.chain([(key, value)]).collect();
    }
}

impl FromIterator<(String, Value)> for Attributes {
    /// Of a key that comes twice, the last value counts.
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(all: I) -> Attributes {
        let mut all: Vec<(String, Value)> = all.into_iter().collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        // Of neighbours the first is kept, so it takes what came later.
        all.dedup_by(|later, kept| {
            let twice = later.0 == kept.0;
            if twice {
                std::mem::swap(later, kept);
            }
            twice
        });
        Attributes(all.into())
    }
}

impl<const N: usize> From<[(String, Value); N]> for Attributes {
    fn from(all: [(String, Value); N]) -> Attributes {
        all.into_iter().collect()
    }
}

impl Index<&str> for Attributes {
    type Output = Value;

    fn index(&self, key: &str) -> &Value {
        self.get(key).expect("it is there")
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_key_counts() {
        let all = [("b", 1), ("a", 2), ("b", 3), ("b", 4)];
        let mut attributes: Attributes =
            all.into_iter().map(|(key, value)| (key.to_owned(), Value::Int(value))).collect();
        assert_eq!(format!("{attributes:?}"), r#"{"a": Int(2), "b": Int(4)}"#);
        attributes.insert("a".to_owned(), Value::Int(5));
        attributes.insert("c".to_owned(), Value::Int(6));
        assert_eq!(format!("{attributes:?}"), r#"{"a": Int(5), "b": Int(4), "c": Int(6)}"#);
        assert_eq!((attributes.get("b"), attributes.get("d")), (Some(&Value::Int(4)), None));
    }
}
