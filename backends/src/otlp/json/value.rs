//! Attributes and their values in JSON.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, KeyValue, KeyValueList,
};

use super::{Reader, Result, Token, bytes, number};

impl Reader<'_> {
    /// A list of attributes; those without a key are lost.
    pub(super) fn attributes(&mut self) -> Result<Vec<KeyValue>> {
        let mut attributes = Vec::new();
        self.list("attributes", |reader| {
            attributes.extend(reader.attribute()?);
            Ok(())
        })?;
        Ok(attributes)
    }

    fn attribute(&mut self) -> Result<Option<KeyValue>> {
        let (mut key, mut value) = (Some(String::new()), None);
        let known = self.lost.len();
        let present = self.object("attribute", |reader, field| {
            match field {
                "key" => key = reader.optional_text("key")?,
                "value" => value = reader.value()?,
                _ => reader.pass_over()?,
            }
            Ok(())
        })?;
        let Some(key) = key else {
            if self.lost.len() == known {
                self.lost.add(&"an attribute is lost, because it has no key");
            }
            return Ok(None);
        };
        self.lost.name_since(known, &format_args!("attribute `{key}`: "));
        Ok(present.then(|| KeyValue { key, value, ..KeyValue::default() }))
    }

    /// A value; one that is lost is empty.
    fn value(&mut self) -> Result<Option<AnyValue>> {
        let mut value = None;
        let present = self.object("value", |reader, kind| {
            let next = reader.value_of_kind(kind)?;
            if value.is_some() && next.is_some() {
                reader.lost.add(&"it has several values, of which the last counts");
            }
            value = next.or(value.take());
            Ok(())
        })?;
        Ok(present.then_some(AnyValue { value }))
    }

    fn value_of_kind(&mut self, kind: &str) -> Result<Option<Value>> {
        Ok(match kind {
            "stringValue" | "string_value" => {
                self.optional_text("stringValue")?.map(Value::StringValue)
            }
            "boolValue" | "bool_value" => match self.token()? {
                Token::Null => None,
                Token::Bool(bool) => Some(Value::BoolValue(bool)),
                other => self.lose("boolValue", &other, "true or false").map(|()| None)?,
            },
            "intValue" | "int_value" => {
                self.integer("intValue", "an integer of 64 bits")?.map(Value::IntValue)
            }
            "doubleValue" | "double_value" => {
                let double = self.scalar("doubleValue", "a double", number::double)?;
                double.map(Value::DoubleValue)
            }
            "bytesValue" | "bytes_value" => {
                let bytes = self.scalar("bytesValue", "base64", bytes::base64)?;
                bytes.map(Value::BytesValue)
            }
            "arrayValue" | "array_value" => self.array()?.map(Value::ArrayValue),
            "kvlistValue" | "kvlist_value" => {
                let mut list = KeyValueList::default();
                let present = self.object("kvlistValue", |reader, key| {
                    match key {
                        "values" => list.values = reader.attributes()?,
                        _ => reader.pass_over()?,
                    }
                    Ok(())
                })?;
                present.then_some(Value::KvlistValue(list))
            }
            _ => {
                let token = self.token()?;
                if !matches!(token, Token::Null) {
                    self.lost
                        .add(&format_args!("`{kind}` is lost, because OTLP has no such value"));
                }
                self.lexer.skip(&token)?;
                None
            }
        })
    }

    /// A list of values, in which `null` is an empty one.
    fn array(&mut self) -> Result<Option<ArrayValue>> {
        let mut array = ArrayValue::default();
        let present = self.object("arrayValue", |reader, key| match key {
            "values" => reader.list("values", |reader| {
                array.values.push(reader.value()?.unwrap_or_default());
                Ok(())
            }),
            _ => reader.pass_over(),
        })?;
        Ok(present.then_some(array))
    }

    pub(super) fn entities(&mut self) -> Result<Vec<EntityRef>> {
        let mut entities = Vec::new();
        self.list("entityRefs", |reader| {
            let mut entity = EntityRef::default();
            let present = reader.object("entity", |reader, key| {
                match key {
                    "schemaUrl" | "schema_url" => entity.schema_url = reader.text("schemaUrl")?,
                    "type" => entity.r#type = reader.text("type")?,
                    "idKeys" | "id_keys" => entity.id_keys = reader.texts("idKeys")?,
                    "descriptionKeys" | "description_keys" => {
                        entity.description_keys = reader.texts("descriptionKeys")?;
                    }
                    _ => reader.pass_over()?,
                }
                Ok(())
            })?;
            entities.extend(present.then_some(entity));
            Ok(())
        })?;
        Ok(entities)
    }

    fn texts(&mut self, what: &str) -> Result<Vec<String>> {
        let mut texts = Vec::new();
        self.list(what, |reader| {
            texts.extend(reader.optional_text(what)?);
            Ok(())
        })?;
        Ok(texts)
    }
}
