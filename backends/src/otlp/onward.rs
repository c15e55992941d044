//! Sends everything that comes in on, to a second place that a test names.
//!
//! What was exported goes as it is; clnrm's own spans go through OpenTelemetry's exporter. Nothing
//! of a run depends on it: what could not be sent is told, and that is all.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::http::uri::PathAndQuery;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId};
use opentelemetry::{InstrumentationScope, trace::TraceState};
use opentelemetry_otlp::{
    Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tonic::metadata::{MetadataKey, MetadataMap};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::Signal;
use super::grpc::Raw;
use crate::action::Forward;
use crate::trace::{Span, StatusCode};

/// Requests that wait to be sent on.
const MOST_WAITING: usize = 256;
/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// How long the end of a run waits for what is still to be sent.
const END_LIMIT: Duration = Duration::from_secs(10);

/// A way to the second place.
pub(crate) struct Onward {
    forward: Forward,
    queue: mpsc::Sender<(Signal, Bytes)>,
    /// Ends with how many requests were sent, or why no more were.
    sending: AbortOnDropHandle<Result<(), String>>,
}

/// Where requests that came in are handed on.
#[derive(Clone)]
pub(super) struct Next(mpsc::Sender<(Signal, Bytes)>);

impl Next {
    /// Hands a request in protobuf on, unless too many wait already.
    pub(super) fn pass(&self, signal: Signal, body: Bytes) {
        // When nobody takes them any more, the reason is told at the end.
        let _ = self.0.try_send((signal, body));
    }
}

impl Onward {
    /// Begins to send on what is handed to `next`. Call within a tokio runtime.
    pub(crate) fn begin(forward: &Forward) -> Onward {
        let (queue, waiting) = mpsc::channel(MOST_WAITING);
        let sending = AbortOnDropHandle::new(tokio::spawn(send_all(forward.clone(), waiting)));
        Onward { forward: forward.clone(), queue, sending }
    }

    pub(super) fn next(&self) -> Next {
        Next(self.queue.clone())
    }

    /// Sends clnrm's own spans, whose times are nanoseconds since `epoch`, and waits for the rest;
    /// all of [`next`](Self::next) must be gone. Gives what is to be told.
    pub(crate) async fn end(self, own: &[Span], epoch: SystemTime) -> Option<String> {
        let Onward { forward, queue, sending } = self;
        drop(queue);
        let everything = async {
            sending.await.unwrap_or_else(|error| Err(error.to_string()))?;
            let exported = timeout(REQUEST_LIMIT, export(&forward, own, epoch)).await;
            exported.unwrap_or_else(|_| Err(format!("no answer within {REQUEST_LIMIT:?}")))
        };
        let sent = timeout(END_LIMIT, everything).await;
        let sent = sent.unwrap_or_else(|_| Err(format!("not done within {END_LIMIT:?}")));
        let told = |reason| format!("not all could be sent on to {}: {reason}", forward.endpoint);
        sent.err().map(told)
    }
}

/// Sends requests until one fails.
async fn send_all(
    forward: Forward,
    mut waiting: mpsc::Receiver<(Signal, Bytes)>,
) -> Result<(), String> {
    // A connection is made only for something to be sent.
    let Some(first) = waiting.recv().await else { return Ok(()) };
    let line = Line::to(&forward)?;
    let mut next = Some(first);
    while let Some((signal, body)) = next {
        let sent = timeout(REQUEST_LIMIT, line.send(signal, body)).await;
        sent.unwrap_or_else(|_| Err(format!("no answer within {REQUEST_LIMIT:?}")))?;
        next = waiting.recv().await;
    }
    Ok(())
}

/// A line to an endpoint.
enum Line<'a> {
    Http { client: reqwest::Client, forward: &'a Forward },
    Grpc { channel: Channel, metadata: MetadataMap },
}

impl Line<'_> {
    fn to(forward: &Forward) -> Result<Line<'_>, String> {
        if !forward.grpc {
            return Ok(Line::Http { client: client()?, forward });
        }
        let metadata = metadata(&forward.headers)?;
        Ok(Line::Grpc { channel: endpoint(forward)?.connect_lazy(), metadata })
    }

    async fn send(&self, signal: Signal, body: Bytes) -> Result<(), String> {
        match self {
            Line::Http { client, forward } => {
                let mut request = client
                    .post(url(forward, signal))
                    .header(CONTENT_TYPE, "application/x-protobuf")
                    .body(body);
                for (name, value) in &forward.headers {
                    request = request.header(name, value);
                }
                let answer = request.send().await.map_err(|error| chain(&error.without_url()))?;
                let status = answer.status();
                if status.is_success() { Ok(()) } else { Err(format!("it answers {status}")) }
            }
            Line::Grpc { channel, metadata } => {
                let mut client = tonic::client::Grpc::new(channel.clone());
                client.ready().await.map_err(|error| chain(&error))?;
                let mut request = tonic::Request::new(body);
                *request.metadata_mut() = metadata.clone();
                let path = PathAndQuery::from_static(signal.method());
                let answer = client.unary(request, path, Raw).await;
                answer.map(drop).map_err(|status| chain(&status))
            }
        }
    }
}

/// Sends spans of clnrm.
async fn export(forward: &Forward, own: &[Span], epoch: SystemTime) -> Result<(), String> {
    let told = |error: opentelemetry_otlp::ExporterBuildError| error.to_string();
    let builder = SpanExporter::builder();
    let mut exporter = if forward.grpc {
        builder
            .with_tonic()
            .with_channel(endpoint(forward)?.connect_lazy())
            .with_metadata(metadata(&forward.headers)?)
            .build()
            .map_err(told)?
    } else {
        builder
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(client()?)
            .with_endpoint(url(forward, Signal::Traces))
            .with_headers(forward.headers.clone().into_iter().collect::<HashMap<_, _>>())
            .build()
            .map_err(told)?
    };
    exporter.set_resource(&Resource::builder_empty().with_service_name("clnrm").build());
    let spans = own.iter().map(|span| data(span, epoch)).collect();
    exporter.export(spans).await.map_err(|error| chain(&error))
}

/// A span of clnrm as the SDK has it.
fn data(span: &Span, epoch: SystemTime) -> SpanData {
    let time = |ns: i64| epoch + Duration::from_nanos(ns.max(0) as u64);
    let span_id = |hex: &str| SpanId::from_hex(hex).unwrap_or(SpanId::INVALID);
    let trace_id = TraceId::from_hex(&span.trace_id).unwrap_or(TraceId::INVALID);
    let context = SpanContext::new(
        trace_id,
        span_id(&span.span_id),
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    );
    SpanData {
        span_context: context,
        parent_span_id: span.parent_id.as_deref().map_or(SpanId::INVALID, span_id),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: span.name.clone().into(),
        start_time: time(span.start_ns),
        end_time: time(span.end_ns),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: Default::default(),
        links: Default::default(),
        status: match span.status.code {
            StatusCode::Unset => Status::Unset,
            StatusCode::Ok => Status::Ok,
            StatusCode::Error => Status::error(span.status.message.clone()),
        },
        instrumentation_scope: InstrumentationScope::builder("clnrm").build(),
    }
}

fn client() -> Result<reqwest::Client, String> {
    crate::provide_cryptography();
    reqwest::Client::builder().build().map_err(|error| chain(&error))
}

fn endpoint(forward: &Forward) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(forward.endpoint.clone());
    let endpoint = endpoint.map_err(|error| chain(&error))?.connect_timeout(REQUEST_LIMIT);
    if !forward.endpoint.starts_with("https:") {
        return Ok(endpoint);
    }
    crate::provide_cryptography();
    let tls = ClientTlsConfig::new().with_native_roots();
    endpoint.tls_config(tls).map_err(|error| chain(&error))
}

/// Where a signal is sent over HTTP: below the endpoint, which may name the place of traces itself.
fn url(forward: &Forward, signal: Signal) -> String {
    let base = forward.endpoint.trim_end_matches('/').trim_end_matches(Signal::Traces.path());
    format!("{base}{}", signal.path())
}

fn metadata(headers: &BTreeMap<String, String>) -> Result<MetadataMap, String> {
    let mut metadata = MetadataMap::new();
    for (name, value) in headers {
        let key = MetadataKey::from_str(&name.to_ascii_lowercase());
        let key = key.map_err(|_| format!("`{name}` is no name of a header"))?;
        let value = value.parse().map_err(|_| format!("`{name}` has no value of a header"))?;
        metadata.insert(key, value);
    }
    Ok(metadata)
}

/// An error with what lies under it.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text += &format!(": {more}");
        }
        cause = error.source();
    }
    text
}
