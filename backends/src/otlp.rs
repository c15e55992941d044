//! A cell's OTLP receiver: gRPC, HTTP/protobuf and HTTP/JSON on one unix socket.
//! Reading a body is left to `decode`, keeping spans to `sink`.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

pub(crate) use self::onward::Onward;
use self::signal::Signal;
pub use self::signal::{LogRecord, log_records, metric_names};
use self::sink::Sink;
use crate::outcome::Signals;
use crate::trace::Span;

mod decode;
mod grpc;
mod http;
mod json;
mod notes;
mod onward;
mod protobuf;
mod repeats;
mod signal;
mod sink;
mod span;
#[cfg(test)]
mod tests;

/// How long to leave the listener alone after a failed accept, which is most often a lack of
/// file descriptors: the connection stays queued.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// One cell's receiver. Arrival at its socket is the correlation: no ids are needed.
///
/// Dropping it ends its tasks.
pub(crate) struct Receiver {
    sink: Arc<Sink>,
    stop: oneshot::Sender<Duration>,
    serving: AbortOnDropHandle<()>,
}

/// What a receiver has got.
#[derive(Debug)]
pub(crate) struct Received {
    /// Sorted by start and span id; times are Unix nanoseconds.
    pub(crate) spans: Vec<Span>,
    /// Logs and metrics.
    pub(crate) signals: Signals,
    /// Requests and spans that were sent and are not in `spans`, a sentence each.
    pub(crate) incomplete: Vec<String>,
    /// One sentence for each value that was lost from an accepted span, or for each doubt about one.
    pub(crate) losses: Vec<String>,
}

/// The spans in the body of an OTLP request, as a receiver takes them: JSON where that is its
/// content type, else protobuf.
///
/// # Errors
/// Why it cannot be read, as a sentence.
pub fn otlp_spans(body: &[u8], content_type: &str) -> Result<Vec<Span>, String> {
    let json = content_type == "application/json";
    let encoding = if json { decode::Encoding::Json } else { decode::Encoding::Protobuf };
    let sink = Sink::default();
    sink.take(body, encoding).map_err(|refusal| refusal.to_string())?;
    Ok(sink.received().spans)
}

impl Receiver {
    /// Serves OTLP on a unix socket bound at `path` (mode 0777, so that any user of a container
    /// may connect), and hands everything to `onward`, too. Call within a tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be bound, for instance because `path` exists.
    pub(crate) fn listen(path: &Path, onward: Option<&Onward>) -> io::Result<Receiver> {
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o777))?;
        let sink = Arc::new(Sink::with(onward.map(Onward::next)));
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(listener, sink.clone(), stopped));
        Ok(Receiver { sink, stop, serving: AbortOnDropHandle::new(serving) })
    }

    /// What takes spans that come another way, and knows of those that came.
    pub(crate) fn inbox(&self) -> Inbox {
        Inbox(self.sink.clone())
    }

    /// Stops accepting new connections after those already queued were taken, waits until the
    /// open connections have ended (at most `settle`), and gives what has arrived.
    pub(crate) async fn finish(self, settle: Duration) -> Received {
        // The task ends by itself only when it panicked, and then there is nobody to tell.
        let _ = self.stop.send(settle);
        let served = self.serving.await;
        let mut received = self.sink.received();
        if let Err(error) = served {
            received.incomplete.push(format!("the OTLP receiver broke: {error}"));
        }
        received
    }
}

/// Another way into a receiver than its socket.
#[derive(Clone)]
pub(crate) struct Inbox(Arc<Sink>);

impl Inbox {
    /// Takes a line of output, if it is an export in JSON.
    pub(crate) fn line(&self, line: &[u8]) {
        if let Err(refusal) = self.0.take(line, decode::Encoding::Json) {
            self.0.tell(&format_args!("a line of spans on standard output: {refusal}"));
        }
    }

    /// Notes something that may have cost spans.
    pub(crate) fn tell(&self, sentence: &str) {
        self.0.tell(&sentence);
    }

    /// Returns true when no export of spans is in flight and the last one ended `moment` ago or earlier.
    pub(crate) fn is_quiet(&self, moment: Duration) -> bool {
        self.0.is_quiet(moment)
    }

    /// The names of the spans that have arrived, with how many have each.
    pub(crate) fn names(&self) -> BTreeMap<String, u64> {
        self.0.names()
    }

    /// Resolves when `count` spans of this name have arrived.
    pub(crate) async fn heard_of(&self, name: &str, count: u64) {
        self.0.heard_of(name, count).await;
    }
}

/// A connection's way to the sink. Every export under way holds one, and so counts as open.
#[derive(Clone)]
struct Inlet {
    sink: Arc<Sink>,
    _open: TaskTrackerToken,
}

/// Takes connections until told to stop, then lets the open ones end.
async fn serve(listener: UnixListener, sink: Arc<Sink>, mut stopped: oneshot::Receiver<Duration>) {
    let exports = TaskTracker::new();
    let mut connections = JoinSet::new();
    let inlet = || Inlet { sink: sink.clone(), _open: exports.token() };
    let settle = loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, inlet()))),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
            settle = &mut stopped => break settle.unwrap_or_default(),
        }
    };
    for stream in queued(listener) {
        connections.spawn(connection(stream, inlet()));
    }
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(settle, all_ended).await.is_err() {
        connections.shutdown().await;
    }
    // HTTP/2 runs each request in a task of its own, which may outlive the connection by the
    // time it takes to read a body that is already here.
    exports.close();
    exports.wait().await;
}

/// The connections that were made but not yet accepted. Asks the kernel itself: the runtime may
/// not have heard of the latest.
fn queued(listener: UnixListener) -> Vec<UnixStream> {
    let Ok(listener) = listener.into_std() else {
        return Vec::new();
    };
    std::iter::from_fn(|| listener.accept().ok())
        .filter_map(|(stream, _)| {
            stream.set_nonblocking(true).ok()?;
            UnixStream::from_std(stream).ok()
        })
        .collect()
}

/// Serves one connection to its end, whatever is said on it.
async fn connection(stream: UnixStream, inlet: Inlet) {
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    // A program may send its spans, close its side and be gone: they count all the same.
    protocol.http1().half_close(true);
    let service = TowerToHyperService::new(routes(inlet));
    // Rubbish on the wire ends this connection and concerns nobody else.
    let _ = protocol.serve_connection(TokioIo::new(stream), service).await;
}

fn routes(inlet: Inlet) -> Router {
    Router::new()
        .route("/v1/traces", post(http::traces))
        .route("/v1/metrics", post(http::metrics))
        .route("/v1/logs", post(http::logs))
        .route(grpc::TRACES, post(grpc::traces))
        .route(grpc::METRICS, post(grpc::metrics))
        .route(grpc::LOGS, post(grpc::logs))
        .fallback(http::elsewhere)
        .with_state(inlet)
}
