//! The line to Podman's service: `podman-api`, and raw HTTP for the one request it cannot make.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::error::BackendError;

/// More than the engine has to say about the making of a container.
const LONGEST_ANSWER: u64 = 1 << 20;
/// Podman's service at a socket.
#[derive(Clone)]
pub(super) struct Service {
    socket: PathBuf,
    /// For all requests but [`Service::create`].
    pub(super) api: podman_api::Podman,
}

/// Why a request came to nothing.
pub(super) enum Refusal {
    /// The engine's own words, with the HTTP status.
    Answer(u16, String),
    /// There was no answer.
    Unreachable(String),
}

impl Service {
    /// Does not connect yet.
    pub(super) fn at(socket: &Path) -> Service {
        Service { socket: socket.to_owned(), api: podman_api::Podman::unix(socket) }
    }

    /// Asks for the version, and refuses one that is too old.
    pub(super) async fn greet(&self) -> Result<(), BackendError> {
        self.connect().await.map_err(|refusal| self.error("connect", refusal))?;
        let greeting = self.api.ping().await.map_err(|error| {
            self.unavailable(format!("what answers is not Podman ({})", chain(&error)))
        })?;
        let version = greeting.libpod_api_version;
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_some_and(|major| major < 4) {
            return Err(self.unavailable(format!("it is version {version}; 4 or newer is needed")));
        }
        Ok(())
    }

    /// Makes a container of a specification.
    ///
    /// `podman-api` does this too, but misspells `no_new_privileges`, which the engine ignores.
    pub(super) async fn create(&self, spec: &Value) -> Result<(), Refusal> {
        let lost = |error| Refusal::Unreachable(explain(&error));
        let mut stream = self.connect().await?;
        let body = spec.to_string();
        // With HTTP 1.0 the answer is everything until the end.
        let request = format!(
            "POST /v4.0.0/libpod/containers/create HTTP/1.0\r\nHost: podman\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len(),
        );
        stream.write_all(request.as_bytes()).await.map_err(lost)?;
        let mut answer = Vec::new();
        stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await.map_err(lost)?;
        judge(&String::from_utf8_lossy(&answer))
    }

    async fn connect(&self) -> Result<UnixStream, Refusal> {
        UnixStream::connect(&self.socket)
            .await
            .map_err(|error| Refusal::Unreachable(explain(&error)))
    }

    pub(super) fn error(&self, operation: &str, refusal: Refusal) -> BackendError {
        match refusal {
            Refusal::Answer(_, message) => self.failed(operation, message),
            Refusal::Unreachable(reason) => self.unavailable(reason),
        }
    }

    pub(super) fn failed(&self, operation: &str, reason: impl ToString) -> BackendError {
        BackendError::Engine {
            engine: "Podman".to_owned(),
            operation: operation.to_owned(),
            reason: reason.to_string(),
        }
    }

    pub(super) fn unavailable(&self, reason: String) -> BackendError {
        BackendError::Unavailable { engine: format!("Podman at {}", self.socket.display()), reason }
    }
}

impl From<podman_api::Error> for Refusal {
    fn from(error: podman_api::Error) -> Refusal {
        match error {
            podman_api::Error::Fault { code, message } => {
                Refusal::Answer(code.as_u16(), without_echo(&message).to_owned())
            }
            error => Refusal::Unreachable(chain(&error)),
        }
    }
}

/// Whether an HTTP answer is a success; otherwise what it says.
fn judge(answer: &str) -> Result<(), Refusal> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
    match status {
        Some(200..=299) => Ok(()),
        Some(status) => {
            let answer: Value = serde_json::from_str(body).unwrap_or_default();
            Err(Refusal::Answer(status, answer["message"].as_str().unwrap_or(body).to_owned()))
        }
        None => Err(Refusal::Unreachable("it hung up".to_owned())),
    }
}

/// `podman-api` puts an answer's cause behind its message, which mostly ends with it already.
fn without_echo(message: &str) -> &str {
    let split = message.match_indices(": ").map(|(at, _)| (&message[..at], &message[at + 2..]));
    split.into_iter().find(|(said, cause)| said.ends_with(cause)).map_or(message, |(said, _)| said)
}

/// What lies under the errors of HTTP libraries.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    loop {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return explain(error);
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return cause.to_string(),
        }
    }
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::ConnectionRefused => "no service listens there".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not use the socket".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cause_is_said_once() {
        let said = "failed to find image a:1: image not known";
        assert_eq!(super::without_echo(&format!("{said}: image not known")), said);
        assert_eq!(super::without_echo("one: two"), "one: two");
    }
}
