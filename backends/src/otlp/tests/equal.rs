//! The same spans, whether they come in protobuf or in any spelling of JSON.

use std::fmt::Write as _;

use super::*;

/// How a request is written in JSON.
#[derive(Clone, Copy, Debug)]
struct Spelling {
    snake_case: bool,
    /// Fields that are absent are `null`, and not left out.
    nulls: bool,
    /// Numbers and enums are text.
    text: bool,
    /// Integers have an exponent or a fraction.
    decimal: bool,
    /// Base64 as in URLs, without padding.
    url_base64: bool,
    upper_hex: bool,
    /// Characters are escaped.
    escapes: bool,
}

impl Spelling {
    fn key(self, key: &str) -> String {
        if !self.snake_case {
            return key.to_owned();
        }
        let mut snake = String::new();
        for character in key.chars() {
            if character.is_ascii_uppercase() {
                snake.push('_');
            }
            snake.push(character.to_ascii_lowercase());
        }
        snake
    }

    fn object(self, fields: &[(&str, Option<String>)]) -> String {
        let fields = fields.iter().filter_map(|(key, value)| {
            let value = value.clone().or_else(|| self.nulls.then(|| "null".to_owned()))?;
            Some(format!("\"{}\": {value}", self.key(key)))
        });
        format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
    }

    fn list<T>(self, items: &[T], write: impl Fn(&T) -> String) -> Option<String> {
        let items: Vec<String> = items.iter().map(write).collect();
        (!items.is_empty()).then(|| format!("[{}]", items.join(",\n")))
    }

    fn string(self, text: &str) -> String {
        if !self.escapes {
            return serde_json::to_string(text).unwrap();
        }
        let mut written = String::from("\"");
        for unit in text.encode_utf16() {
            let _ = write!(written, "\\u{unit:04x}");
        }
        written + "\""
    }

    fn some_string(self, text: &str) -> Option<String> {
        (!text.is_empty()).then(|| self.string(text))
    }

    fn integer(self, integer: impl Into<i128>) -> String {
        let integer = integer.into();
        let number = match (self.decimal, integer % 10) {
            (true, 0) => format!("{}e+1", integer / 10),
            (true, _) => format!("{integer}.0"),
            _ => integer.to_string(),
        };
        if self.text { format!("\"{number}\"") } else { number }
    }

    fn some_integer(self, integer: impl Into<i128>) -> Option<String> {
        let integer = integer.into();
        (integer != 0).then(|| self.integer(integer))
    }

    fn double(self, double: f64) -> String {
        match double {
            double if double.is_nan() => "\"NaN\"".to_owned(),
            f64::INFINITY => "\"Infinity\"".to_owned(),
            f64::NEG_INFINITY => "\"-Infinity\"".to_owned(),
            double if self.text => format!("\"{double:e}\""),
            double => format!("{double:?}"),
        }
    }

    fn hex(self, bytes: &[u8]) -> String {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("\"{}\"", if self.upper_hex { hex.to_uppercase() } else { hex })
    }

    fn base64(self, bytes: &[u8]) -> String {
        let alphabet: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_";
        let mut text = String::new();
        for three in bytes.chunks(3) {
            let all = three.iter().fold(0, |all, byte| all << 8 | usize::from(*byte));
            let all = all << (8 * (3 - three.len()));
            for at in 0..4 {
                let digit = all >> (18 - 6 * at) & 63;
                let digit = if self.url_base64 && digit >= 62 { digit + 2 } else { digit };
                match at <= three.len() {
                    true => text.push(char::from(alphabet[digit])),
                    false if self.url_base64 => {}
                    false => text.push('='),
                }
            }
        }
        format!("\"{text}\"")
    }

    fn value(self, value: &AnyValue) -> String {
        use any_value::Value::*;
        let one = match value.value.as_ref() {
            None | Some(StringValueStrindex(_)) => ("stringValue", None),
            Some(StringValue(text)) => ("stringValue", Some(self.string(text))),
            Some(BoolValue(bool)) => ("boolValue", Some(bool.to_string())),
            Some(IntValue(int)) => ("intValue", Some(self.integer(*int))),
            Some(DoubleValue(double)) => ("doubleValue", Some(self.double(*double))),
            Some(BytesValue(bytes)) => ("bytesValue", Some(self.base64(bytes))),
            Some(ArrayValue(array)) => {
                let values = self.list(&array.values, |value| self.value(value));
                ("arrayValue", Some(self.object(&[("values", values)])))
            }
            Some(KvlistValue(list)) => {
                let values = self.attributes(&list.values);
                ("kvlistValue", Some(self.object(&[("values", values)])))
            }
        };
        self.object(&[one])
    }

    fn attributes(self, attributes: &[KeyValue]) -> Option<String> {
        self.list(attributes, |attribute| {
            let value = attribute.value.as_ref().map(|value| self.value(value));
            self.object(&[("value", value), ("key", Some(self.string(&attribute.key)))])
        })
    }

    fn span(self, span: &otlp::Span) -> String {
        let kind = span.kind().as_str_name();
        let kind = if self.text { format!("\"{kind}\"") } else { self.integer(span.kind) };
        let status = span.status.as_ref().map(|status| {
            self.object(&[
                ("message", self.some_string(&status.message)),
                ("code", self.some_integer(status.code)),
            ])
        });
        let event = |event: &otlp::span::Event| {
            self.object(&[
                ("timeUnixNano", self.some_integer(event.time_unix_nano)),
                ("name", self.some_string(&event.name)),
                ("attributes", self.attributes(&event.attributes)),
                ("droppedAttributesCount", self.some_integer(event.dropped_attributes_count)),
            ])
        };
        self.object(&[
            ("traceId", Some(self.hex(&span.trace_id))),
            ("spanId", Some(self.hex(&span.span_id))),
            ("parentSpanId", Some(self.hex(&span.parent_span_id))),
            ("kind", Some(kind)),
            ("startTimeUnixNano", self.some_integer(span.start_time_unix_nano)),
            ("endTimeUnixNano", self.some_integer(span.end_time_unix_nano)),
            ("attributes", self.attributes(&span.attributes)),
            ("droppedAttributesCount", self.some_integer(span.dropped_attributes_count)),
            ("events", self.list(&span.events, event)),
            ("status", status),
            ("name", self.some_string(&span.name)),
        ])
    }

    fn request(self, request: &ExportTraceServiceRequest) -> String {
        let spans = self.list(&request.resource_spans, |spans| {
            let resource = spans.resource.as_ref().map(|resource| {
                self.object(&[("attributes", self.attributes(&resource.attributes))])
            });
            let scopes = self.list(&spans.scope_spans, |spans| {
                self.object(&[("spans", self.list(&spans.spans, |span| self.span(span)))])
            });
            self.object(&[("resource", resource), ("scopeSpans", scopes)])
        });
        self.object(&[("resourceSpans", spans)])
    }
}

fn spellings() -> impl Strategy<Value = Spelling> {
    any::<[bool; 7]>().prop_map(
        |[snake_case, nulls, text, decimal, url_base64, upper_hex, escapes]| Spelling {
            snake_case,
            nulls,
            text,
            decimal,
            url_base64,
            upper_hex,
            escapes,
        },
    )
}

fn values() -> impl Strategy<Value = AnyValue> {
    use any_value::Value::*;
    let plain = prop_oneof![
        Just(None),
        any::<String>().prop_map(|text| Some(StringValue(text))),
        any::<bool>().prop_map(|bool| Some(BoolValue(bool))),
        any::<i64>().prop_map(|int| Some(IntValue(int))),
        proptest::num::f64::ANY.prop_map(|double| Some(DoubleValue(double))),
        any::<Vec<u8>>().prop_map(|bytes| Some(BytesValue(bytes))),
    ];
    let plain = plain.prop_map(|value| AnyValue { value });
    plain.prop_recursive(3, 12, 4, |inner| {
        let items = proptest::collection::vec(inner, 0..4);
        prop_oneof![
            items.clone().prop_map(|values| ArrayValue(super::ArrayValue { values })),
            items.prop_map(|values| KvlistValue(KeyValueList { values: keyed(values) })),
        ]
        .prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn keyed(values: Vec<AnyValue>) -> Vec<KeyValue> {
    let key =
        |(at, value)| KeyValue { key: format!("k{at}"), value: Some(value), ..KeyValue::default() };
    values.into_iter().enumerate().map(key).collect()
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    proptest::collection::vec(values(), 0..4).prop_map(keyed)
}

fn spans() -> impl Strategy<Value = otlp::Span> {
    let ids = (1..4_u8, 1..6_u8, prop_oneof![Just(vec![]), Just(vec![9; 8])]);
    let about = (any::<String>(), 0..6, any::<u64>(), any::<u64>(), any::<u32>());
    let event = (any::<String>(), any::<u64>(), attributes()).prop_map(
        |(name, time_unix_nano, attributes)| otlp::span::Event {
            name,
            time_unix_nano,
            attributes,
            dropped_attributes_count: 0,
        },
    );
    let events = proptest::collection::vec(event, 0..3);
    let status = proptest::option::of((any::<String>(), 0..3));
    (ids, about, attributes(), events, status).prop_map(
        |((trace, id, parent), (name, kind, start, end, dropped), attributes, events, status)| {
            otlp::Span {
                trace_id: vec![trace; 16],
                span_id: vec![id; 8],
                parent_span_id: parent,
                name,
                kind,
                start_time_unix_nano: start,
                end_time_unix_nano: end,
                attributes,
                dropped_attributes_count: dropped,
                events,
                status: status.map(|(message, code)| otlp::Status { message, code }),
                ..otlp::Span::default()
            }
        },
    )
}

fn requests() -> impl Strategy<Value = ExportTraceServiceRequest> {
    (proptest::collection::vec(spans(), 1..4), attributes()).prop_map(|(spans, attributes)| {
        let mut request = export(spans);
        request.resource_spans[0].resource = Some(Resource { attributes, ..Default::default() });
        request
    })
}

/// Everything that is received, as text, in which a value that is not a number is equal to itself.
fn seen(body: &[u8], encoding: Encoding) -> String {
    let sink = Sink::default();
    sink.take(body, encoding)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(body)));
    format!("{:#?}", sink.received())
}

proptest! {
    #[test]
    fn protobuf_and_json_in_any_spelling(request in requests(), spelling in spellings()) {
        let json = spelling.request(&request);
        prop_assert_eq!(
            seen(&request.encode_to_vec(), Encoding::Protobuf),
            seen(json.as_bytes(), Encoding::Json),
            "{}", json
        );
    }

    #[test]
    fn damage_costs_no_more_than_an_error(
        request in requests(),
        spelling in spellings(),
        damage: Vec<(u16, u8)>,
    ) {
        let mut json = spelling.request(&request).into_bytes();
        let mut protobuf = request.encode_to_vec();
        let sink = Sink::default();
        for (at, byte) in damage {
            for body in [&mut json, &mut protobuf] {
                let at = usize::from(at) % body.len();
                body[at] = byte;
            }
            let _ = sink.take(&json, Encoding::Json);
            let _ = sink.take(&protobuf, Encoding::Protobuf);
        }
        sink.received();
    }
}
