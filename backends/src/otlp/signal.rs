//! The kinds of things that are exported, and what is kept of those that nobody judges.

use axum::body::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use prost::Message;

use super::decode::Encoding;
use super::{grpc, span};
use crate::outcome::Signals;
use crate::trace::Value;

/// Bytes that are kept of a signal in a run.
const MAX_KEPT: usize = 4 << 20;

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    /// Its place below an HTTP endpoint.
    pub(super) fn path(self) -> &'static str {
        match self {
            Signal::Traces => "/v1/traces",
            Signal::Metrics => "/v1/metrics",
            Signal::Logs => "/v1/logs",
        }
    }

    /// Its gRPC method.
    pub(super) fn method(self) -> &'static str {
        match self {
            Signal::Traces => grpc::TRACES,
            Signal::Metrics => grpc::METRICS,
            Signal::Logs => grpc::LOGS,
        }
    }

    /// A request for it in protobuf; `None` when it is JSON that cannot be read.
    pub(super) fn in_protobuf(self, body: Bytes, encoding: Encoding) -> Option<Bytes> {
        fn again<T: serde::de::DeserializeOwned + Message>(body: &[u8]) -> Option<Bytes> {
            let request: T = serde_json::from_slice(body).ok()?;
            Some(request.encode_to_vec().into())
        }
        match (encoding, self) {
            (Encoding::Protobuf, _) => Some(body),
            (Encoding::Json, Signal::Logs) => again::<ExportLogsServiceRequest>(&body),
            (Encoding::Json, Signal::Metrics) => again::<ExportMetricsServiceRequest>(&body),
            (Encoding::Json, Signal::Traces) => None,
        }
    }
}

impl Signals {
    /// Keeps a request for logs or metrics in protobuf, if there is room.
    pub(super) fn keep(&mut self, signal: Signal, body: &[u8]) {
        let kept = if signal == Signal::Logs { &mut self.logs } else { &mut self.metrics };
        if kept.iter().map(Vec::len).sum::<usize>() + body.len() > MAX_KEPT {
            self.left_out += 1;
        } else if !body.is_empty() {
            kept.push(body.to_vec());
        }
    }
}

/// A log record for people.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRecord {
    /// `service.name` of its resource; empty without one.
    pub service: String,
    /// As the program calls it, like `WARN`; empty when it does not.
    pub severity: String,
    /// Its body; what is not text is shown as JSON.
    pub body: String,
}

/// The log records in requests of [`Signals::logs`], in their order; what cannot be read is left
/// out.
pub fn log_records(requests: &[Vec<u8>]) -> Vec<LogRecord> {
    let mut records = Vec::new();
    let requests = requests.iter().map(Vec::as_slice);
    for of_resource in requests
        .filter_map(|it| ExportLogsServiceRequest::decode(it).ok())
        .flat_map(|it| it.resource_logs)
    {
        let attributes = span::attributes(of_resource.resource.unwrap_or_default().attributes);
        let service = match attributes.get("service.name") {
            Some(Value::String(name)) => name.clone(),
            _ => String::new(),
        };
        for record in of_resource.scope_logs.into_iter().flat_map(|it| it.log_records) {
            let severity = match record.severity_text.as_str() {
                "" => record.severity_number().as_str_name().trim_start_matches("SEVERITY_NUMBER_"),
                text => text,
            };
            let severity = if severity == "UNSPECIFIED" { "" } else { severity }.to_owned();
            let body = match record.body.and_then(|body| body.value) {
                None => String::new(),
                Some(any_value::Value::StringValue(text)) => text,
                Some(body) => serde_json::to_string(&body).unwrap_or_default(),
            };
            records.push(LogRecord { service: service.clone(), severity, body });
        }
    }
    records
}

/// The names of the metrics in requests of [`Signals::metrics`], sorted, each once.
pub fn metric_names(requests: &[Vec<u8>]) -> Vec<String> {
    let requests = requests.iter().map(Vec::as_slice);
    let requests = requests.filter_map(|it| ExportMetricsServiceRequest::decode(it).ok());
    let scopes = requests.flat_map(|it| it.resource_metrics).flat_map(|it| it.scope_metrics);
    let mut names: Vec<String> = scopes.flat_map(|it| it.metrics).map(|it| it.name).collect();
    names.sort();
    names.dedup();
    names
}
