//! The spans clnrm makes about a run, and what it tells the code under test about them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::action::Action;
use crate::trace::{Attributes, Dropped, Source, Span, SpanKind, Status, StatusCode};

/// The run's own trace. Its root is `clnrm.scenario`; whoever judges gives it the scenario's name.
pub(super) struct Lifecycle {
    trace_id: String,
    root: String,
    began: Instant,
    /// Nanoseconds since the epoch at `began`.
    epoch_ns: i64,
    spans: Mutex<Vec<Span>>,
}

/// A span that has not ended.
pub(super) struct Open {
    name: String,
    id: String,
    start_ns: i64,
}

impl Lifecycle {
    pub(super) fn begin() -> Lifecycle {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Lifecycle {
            trace_id: random_hex::<16>(),
            root: random_hex::<8>(),
            began: Instant::now(),
            epoch_ns: epoch.as_nanos() as i64,
            spans: Mutex::default(),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// When it began.
    pub(super) fn epoch(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.epoch_ns as u64)
    }

    pub(super) fn open(&self, name: String) -> Open {
        Open { name, id: random_hex::<8>(), start_ns: self.elapsed().as_nanos() as i64 }
    }

    pub(super) fn close(&self, open: Open, good: bool) {
        let end_ns = self.elapsed().as_nanos() as i64;
        let parent = Some(self.root.clone());
        let span = self.span(open.name, open.id, parent, open.start_ns, end_ns, good);
        self.spans.lock().expect("no holder panics").push(span);
    }

    /// The variables every process gets unless the file sets them itself.
    pub(super) fn environment(
        &self,
        action: &Action,
        service: &str,
        parent: &Open,
    ) -> BTreeMap<String, String> {
        let endpoint = format!("http://127.0.0.1:{}", crate::agent::OTLP_PORTS[1]);
        let mut env = BTreeMap::from([
            ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(), "http/protobuf".to_owned()),
            ("OTEL_SERVICE_NAME".to_owned(), service.to_owned()),
            ("OTEL_RESOURCE_ATTRIBUTES".to_owned(), format!("clnrm.service={service}")),
            // Spans soon enough for a short wait at the end of a run; the others are not judged.
            ("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "5".to_owned()),
            ("OTEL_BLRP_SCHEDULE_DELAY".to_owned(), "20".to_owned()),
            ("OTEL_METRIC_EXPORT_INTERVAL".to_owned(), "200".to_owned()),
            ("TRACEPARENT".to_owned(), format!("00-{}-{}-01", self.trace_id, parent.id)),
            ("CLNRM_SEED".to_owned(), action.seed.to_string()),
        ]);
        if let Some(clock) = action.clock {
            env.insert("SOURCE_DATE_EPOCH".to_owned(), clock.to_string());
        }
        env
    }

    /// All spans of the run: these and the received ones, on one clock that begins with the run.
    pub(super) fn end(self, mut received: Vec<Span>) -> Vec<Span> {
        let end_ns = self.elapsed().as_nanos() as i64;
        let root = self.root.clone();
        let root = self.span("clnrm.scenario".to_owned(), root, None, 0, end_ns, true);
        for span in &mut received {
            span.start_ns = span.start_ns.saturating_sub(self.epoch_ns);
            span.end_ns = span.end_ns.saturating_sub(self.epoch_ns);
            for event in &mut span.events {
                event.at_ns = event.at_ns.saturating_sub(self.epoch_ns);
            }
        }
        let mut spans = received;
        spans.extend(self.spans.into_inner().expect("no holder panics"));
        spans.push(root);
        spans.sort_unstable_by(|a, b| {
            (a.start_ns, a.end_ns, &a.name, &a.span_id, &a.trace_id).cmp(&(
                b.start_ns,
                b.end_ns,
                &b.name,
                &b.span_id,
                &b.trace_id,
            ))
        });
        spans
    }

    fn span(
        &self,
        name: String,
        span_id: String,
        parent_id: Option<String>,
        start_ns: i64,
        end_ns: i64,
        good: bool,
    ) -> Span {
        Span {
            trace_id: self.trace_id.clone(),
            span_id,
            parent_id,
            name,
            kind: SpanKind::Internal,
            start_ns,
            end_ns,
            status: Status {
                code: if good { StatusCode::Ok } else { StatusCode::Error },
                message: String::new(),
            },
            attributes: Attributes::new(),
            resource: Arc::default(),
            scope: "clnrm".to_owned(),
            events: Vec::new(),
            dropped: Dropped::default(),
            source: Source::Lifecycle,
        }
    }
}

/// Random bytes as hex digits; never all zero, which OpenTelemetry reserves.
fn random_hex<const N: usize>() -> String {
    let mut bytes = [0; N];
    while bytes == [0; N] {
        let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        filled.expect("the kernel's random numbers are always there");
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
