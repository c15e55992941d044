//! Reads JSON requests as receivers of Protobuf's JSON mapping must, and a little more leniently:
//! `null` for an absent field, keys in camelCase and as in the protocol, numbers and enums as text.
//! A value that cannot be read is lost by itself, with a note.

use std::borrow::Cow;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};

use self::lexer::{Lexer, Malformed, Token};
use super::decode::{Limit, Read, Tally};
use super::notes::Notes;

mod bytes;
mod lexer;
mod number;
mod span;
mod value;

/// Why a whole request is not taken.
#[derive(Debug)]
pub(super) enum Broken {
    Malformed(String),
    Limit(Limit),
    /// It has no spans, and a key that is not OTLP's.
    UnknownKey(String),
}

/// Reads a request.
pub(super) fn read(body: &[u8]) -> Result<Read, Broken> {
    let mut reader =
        Reader { lexer: Lexer::new(body), spans: 0, unknown: None, lost: Notes::default() };
    let request = reader.request().map_err(|stop| stop.of(body))?;
    reader.lexer.end().map_err(|malformed| Stop::from(malformed).of(body))?;
    match reader.unknown {
        Some(key) if reader.spans == 0 => return Err(Broken::UnknownKey(key)),
        // Spans of a protocol before OTLP 1.0 lie below other keys.
        Some(key) if key.to_ascii_lowercase().contains("spans") => {
            reader.lost.add(&format_args!("what the unknown key `{key}` holds is lost"));
        }
        _ => {}
    }
    Ok(Read { request, lost: reader.lost })
}

/// Why reading stops.
enum Stop {
    Malformed(Malformed),
    Limit(Limit),
}

type Result<T, E = Stop> = std::result::Result<T, E>;

struct Reader<'a> {
    lexer: Lexer<'a>,
    spans: usize,
    /// The first key where spans could have been that is not OTLP's.
    unknown: Option<String>,
    lost: Notes,
}

impl<'a> Reader<'a> {
    fn request(&mut self) -> Result<ExportTraceServiceRequest> {
        let mut request = ExportTraceServiceRequest::default();
        self.structure(|reader, key| match key {
            "resourceSpans" | "resource_spans" => reader.structures(|reader| {
                let mut spans = ResourceSpans::default();
                reader.resource_spans(&mut spans)?;
                request.resource_spans.push(spans);
                Ok(())
            }),
            _ => reader.unknown(key),
        })?;
        Ok(request)
    }

    fn resource_spans(&mut self, spans: &mut ResourceSpans) -> Result<()> {
        self.structure(|reader, key| {
            match key {
                "resource" => spans.resource = reader.resource()?,
                "scopeSpans" | "scope_spans" => reader.structures(|reader| {
                    let mut of_scope = ScopeSpans::default();
                    reader.scope_spans(&mut of_scope)?;
                    spans.scope_spans.push(of_scope);
                    Ok(())
                })?,
                "schemaUrl" | "schema_url" => spans.schema_url = reader.text("schemaUrl")?,
                _ => reader.unknown(key)?,
            }
            Ok(())
        })
    }

    fn scope_spans(&mut self, spans: &mut ScopeSpans) -> Result<()> {
        self.structure(|reader, key| {
            match key {
                "scope" => spans.scope = reader.scope()?,
                "spans" => reader.structures(|reader| {
                    reader.spans += 1;
                    Limit::check(Tally { spans: reader.spans, parts: reader.lexer.parts })?;
                    spans.spans.push(reader.span()?);
                    Ok(())
                })?,
                "schemaUrl" | "schema_url" => spans.schema_url = reader.text("schemaUrl")?,
                _ => reader.unknown(key)?,
            }
            Ok(())
        })
    }

    fn resource(&mut self) -> Result<Option<Resource>> {
        let mut resource = Resource::default();
        let known = self.lost.len();
        let present = self.object("resource", |reader, key| {
            match key {
                "attributes" => resource.attributes = reader.attributes()?,
                "droppedAttributesCount" | "dropped_attributes_count" => {
                    resource.dropped_attributes_count = reader.count("droppedAttributesCount")?;
                }
                "entityRefs" | "entity_refs" => resource.entity_refs = reader.entities()?,
                _ => reader.pass_over()?,
            }
            Ok(())
        })?;
        self.lost.name_since(known, &"resource: ");
        Ok(present.then_some(resource))
    }

    fn scope(&mut self) -> Result<Option<InstrumentationScope>> {
        let mut scope = InstrumentationScope::default();
        let known = self.lost.len();
        let present = self.object("scope", |reader, key| {
            match key {
                "name" => scope.name = reader.text("name")?,
                "version" => scope.version = reader.text("version")?,
                "attributes" => scope.attributes = reader.attributes()?,
                "droppedAttributesCount" | "dropped_attributes_count" => {
                    scope.dropped_attributes_count = reader.count("droppedAttributesCount")?;
                }
                _ => reader.pass_over()?,
            }
            Ok(())
        })?;
        self.lost.name_since(known, &format_args!("scope `{}`: ", scope.name));
        Ok(present.then_some(scope))
    }

    /// An object without which spans are lost.
    fn structure(&mut self, field: impl FnMut(&mut Self, &str) -> Result<()>) -> Result<()> {
        match self.token()? {
            Token::Null => Ok(()),
            Token::Object => self.fields(field),
            other => {
                Ok(self.lexer.malformed(&format!("expected an object, not {}", seen(&other)))?)
            }
        }
    }

    /// A list without which spans are lost; items that are `null` are absent.
    fn structures(&mut self, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        match self.token()? {
            Token::Null => Ok(()),
            Token::List => {
                while self.lexer.item()? {
                    if !self.lexer.null() {
                        item(self)?;
                    }
                }
                Ok(())
            }
            other => Ok(self.lexer.malformed(&format!("expected a list, not {}", seen(&other)))?),
        }
    }

    /// An object whose loss is noted; false when it is absent or lost.
    fn object(
        &mut self,
        what: &str,
        field: impl FnMut(&mut Self, &str) -> Result<()>,
    ) -> Result<bool> {
        match self.token()? {
            Token::Null => Ok(false),
            Token::Object => self.fields(field).map(|()| true),
            other => self.lose(what, &other, "an object").map(|()| false),
        }
    }

    /// A list whose loss is noted.
    fn list(&mut self, what: &str, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        match self.token()? {
            Token::Null => Ok(()),
            Token::List => {
                while self.lexer.item()? {
                    item(self)?;
                }
                Ok(())
            }
            other => self.lose(what, &other, "a list"),
        }
    }

    fn fields(&mut self, mut field: impl FnMut(&mut Self, &str) -> Result<()>) -> Result<()> {
        while let Some(key) = self.lexer.key()? {
            field(self, &key)?;
        }
        Ok(())
    }

    /// A text; empty when it is absent or lost.
    fn text(&mut self, what: &str) -> Result<String> {
        Ok(self.optional_text(what)?.unwrap_or_default())
    }

    /// A text; `None` when it is absent or lost.
    fn optional_text(&mut self, what: &str) -> Result<Option<String>> {
        match self.token()? {
            Token::Null => Ok(None),
            Token::Text(Some(text)) => Ok(Some(text.into_owned())),
            other => self.lose(what, &other, "text").map(|()| None),
        }
    }

    /// Parses a number or a string with `parse`. Returns `None` when the value is absent or was lost.
    fn scalar<T>(
        &mut self,
        what: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        let token = self.token()?;
        let parsed = match &token {
            Token::Null => return Ok(None),
            Token::Number(text) => parse(text),
            Token::Text(Some(text)) => parse(text),
            _ => None,
        };
        if parsed.is_none() {
            self.lose(what, &token, expected)?;
        }
        Ok(parsed)
    }

    fn integer<T: TryFrom<i128>>(&mut self, what: &str, expected: &str) -> Result<Option<T>> {
        self.scalar(what, expected, |text| T::try_from(number::integer(text)?).ok())
    }

    fn count(&mut self, what: &str) -> Result<u32> {
        Ok(self.integer(what, "an integer of 32 bits without a sign")?.unwrap_or_default())
    }

    /// Notes that a value is lost, because it began with `token` and should be `expected`.
    fn lose(&mut self, what: &str, token: &Token<'_>, expected: &str) -> Result<()> {
        match token {
            Token::Text(None) => {
                self.lost.add(&format_args!("`{what}` is lost, because it is not valid Unicode"));
            }
            _ => {
                let seen = seen(token);
                self.lost.add(&format_args!("`{what}` is lost, because {seen} is not {expected}"));
            }
        }
        Ok(self.lexer.skip(token)?)
    }

    /// Notes a key that is not OTLP's where spans could have been.
    fn unknown(&mut self, key: &str) -> Result<()> {
        self.unknown.get_or_insert_with(|| key.to_owned());
        self.pass_over()
    }

    fn pass_over(&mut self) -> Result<()> {
        let token = self.token()?;
        Ok(self.lexer.skip(&token)?)
    }

    fn token(&mut self) -> Result<Token<'a>> {
        let token = self.lexer.token()?;
        if let Token::Object | Token::List = token {
            Limit::check(Tally { spans: self.spans, parts: self.lexer.parts })?;
        }
        Ok(token)
    }
}

/// The value as the sender wrote it, shown in a note.
fn seen(token: &Token<'_>) -> Cow<'static, str> {
    match token {
        Token::Null => "null".into(),
        Token::Bool(bool) => bool.to_string().into(),
        Token::Number(text) => (*text).to_owned().into(),
        Token::Text(Some(text)) => format!("\"{text}\"").into(),
        Token::Text(None) => "text".into(),
        Token::Object => "an object".into(),
        Token::List => "a list".into(),
    }
}

impl Stop {
    fn of(self, body: &[u8]) -> Broken {
        match self {
            Stop::Limit(limit) => Broken::Limit(limit),
            Stop::Malformed(Malformed { reason, at }) => {
                let before = &body[..at.min(body.len())];
                let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
                let begin = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
                let column = 1 + before.len() - begin;
                Broken::Malformed(format!("{reason} at line {line} column {column}"))
            }
        }
    }
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Stop {
        Stop::Malformed(malformed)
    }
}

impl From<Limit> for Stop {
    fn from(limit: Limit) -> Stop {
        Stop::Limit(limit)
    }
}
