//! Counts and reads JSON requests, more leniently than the specification asks.

use std::fmt;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

use super::decode::Tally;

/// Counts the objects and lists of a request, building none. What a list called `spans` holds are
/// spans.
pub(super) fn count(body: &[u8]) -> serde_json::Result<Tally> {
    let mut tally = Tally::default();
    let mut json = serde_json::Deserializer::from_slice(body);
    let whole = Walk { tally: &mut tally, in_spans: false };
    whole.deserialize(&mut json)?;
    json.end()?;
    Ok(tally)
}

/// Reads a request; what is not quite OTLP gets a second chance.
pub(super) fn read(body: &[u8]) -> serde_json::Result<ExportTraceServiceRequest> {
    serde_json::from_slice(body).or_else(|error| {
        let mut relaxed: Value = serde_json::from_slice(body)?;
        relax(&mut relaxed);
        // The first error knows its line and column.
        serde_json::from_value(relaxed).map_err(|_| error)
    })
}

/// Is this a request that has no spans because it has nothing at all?
pub(super) fn is_empty(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Empty {
        #[serde(default, rename = "resourceSpans")]
        _resource_spans: Option<[(); 0]>,
    }
    serde_json::from_slice::<Empty>(body).is_ok()
}

/// Turns what Protobuf's JSON mapping allows beside OTLP's into OTLP's: `null` for an absent
/// field, names for enums, text for numbers, no `values` for none. What JSON has no number for
/// (`NaN`) becomes an empty value.
fn relax(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(relax),
        Value::Object(fields) => relax_fields(fields),
        _ => {}
    }
}

fn relax_fields(fields: &mut Map<String, Value>) {
    fields.retain(|_, field| !field.is_null());
    for (name, field) in fields.iter_mut() {
        match (name.as_str(), &mut *field) {
            ("kind", Value::String(kind)) => {
                *field =
                    SpanKind::from_str_name(kind).map_or(Value::Null, |kind| json!(kind as i32));
            }
            ("code", Value::String(code)) => {
                *field =
                    StatusCode::from_str_name(code).map_or(Value::Null, |code| json!(code as i32));
            }
            ("doubleValue", Value::String(number)) => {
                *field = number.parse::<f64>().map_or(Value::Null, |number| json!(number));
            }
            ("arrayValue" | "kvlistValue", Value::Object(list)) => {
                list.entry("values").or_insert_with(|| json!([]));
            }
            _ => {}
        }
        relax(field);
    }
}

/// A JSON value on its way to being counted.
struct Walk<'a> {
    tally: &'a mut Tally,
    in_spans: bool,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        self.tally.parts += 1;
        while let Some(name) = fields.next_key::<String>()? {
            fields.next_value_seed(Walk { tally: self.tally, in_spans: name == "spans" })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.tally.parts += 1;
        while items.next_element_seed(Walk { tally: self.tally, in_spans: false })?.is_some() {
            self.tally.spans += usize::from(self.in_spans);
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
