//! The line to Podman's service: `podman-api`, and raw HTTP for the one request it cannot make.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use podman_api::opts::{
    ContainerDeleteOpts, ContainerListFilter, ContainerListOpts, ImageImportOpts,
    NetworkCreateOpts, NetworkListFilter, NetworkListOpts, PullOpts, RegistryAuth,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::spec;
use crate::engine::{
    Engine, Files, ImageFacts, Ours, Place, Plan, Refusal, STARTED_LABEL, chain, explain,
};
use crate::image::{Credentials, tcp_ports};

/// More than the engine has to say about the making of a container.
const LONGEST_ANSWER: u64 = 1 << 20;
/// How it says that it does not have an image.
const UNKNOWN: [&str; 3] = ["no such image", "image not known", "failed to find image"];

/// Podman's service at a socket.
#[derive(Clone)]
pub(crate) struct Service {
    socket: PathBuf,
    /// For all requests but [`Service::create`].
    api: podman_api::Podman,
}

impl Engine for Service {
    const NAME: &'static str = "Podman";
    const REMOTE: &'static str = "--url";

    type Spec = Value;

    fn socket(&self) -> &Path {
        &self.socket
    }

    async fn greet(&self) -> Result<(), Refusal> {
        self.connect().await?;
        let unusable = |reason: String| Refusal::Unreachable(reason);
        let greeting = self.api.ping().await.map_err(|error| match error.into() {
            Refusal::Answer(_, message) => unusable(message),
            Refusal::Unreachable(reason) => {
                unusable(format!("what answers is not Podman ({reason})"))
            }
        })?;
        let version = greeting.libpod_api_version;
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_some_and(|major| major < 4) {
            return Err(unusable(format!("it is version {version}; 4 or newer is needed")));
        }
        Ok(())
    }

    async fn inspect(&self, reference: &str) -> Result<Option<ImageFacts>, Refusal> {
        let image = match self.api.images().get(reference).inspect().await.map_err(Refusal::from) {
            Ok(image) => image,
            Err(Refusal::Answer(404 | 500, message))
                if UNKNOWN.iter().any(|unknown| message.contains(unknown)) =>
            {
                return Ok(None);
            }
            Err(refusal) => return Err(refusal),
        };
        let id = image.id.ok_or_else(|| Refusal::Answer(200, "the image has no id".to_owned()))?;
        let config = image.config;
        let user = config.as_ref().and_then(|config| config.user.clone()).unwrap_or_default();
        let exposed = config.as_ref().and_then(|config| config.exposed_ports.as_ref());
        let ports = tcp_ports(exposed.into_iter().flat_map(|ports| ports.keys()));
        let [entrypoint, command] =
            config.map_or([None, None], |config| [config.entrypoint, config.cmd]);
        let command = entrypoint.into_iter().chain(command).flatten().collect();
        Ok(Some(ImageFacts { id, command, user, ports }))
    }

    async fn pull(&self, reference: &str) -> Result<(), Refusal> {
        let host = reference.split('/').next().unwrap_or_default();
        // A registry on this machine speaks as it likes.
        let plain = host.starts_with("localhost:") || host.starts_with("127.0.0.1:");
        let mut options = PullOpts::builder().reference(reference).tls_verify(!plain);
        if let Some(Credentials { name, password }) = Credentials::of(reference) {
            let auth = RegistryAuth::builder().username(name).password(password).build();
            options.auth(auth);
        }
        let options = options.build();
        let images = self.api.images();
        let mut steps = images.pull(&options);
        while let Some(step) = steps.try_next().await? {
            if let Some(error) = step.error {
                return Err(Refusal::Answer(200, error));
            }
        }
        Ok(())
    }

    async fn import(&self, reference: &str, root: Vec<u8>) -> Result<(), Refusal> {
        let options = ImageImportOpts::builder().reference(reference).changes(["WORKDIR /"]);
        self.api.images().import(&options.build(), root).await?;
        Ok(())
    }

    fn spec(&self, plan: &Plan<'_>, files: Files) -> io::Result<Value> {
        Ok(spec::spec(plan, files))
    }

    async fn start(self, name: String, spec: Value) -> Result<(), Refusal> {
        self.create(&spec).await?;
        Ok(self.api.containers().get(&name).start(None).await?)
    }

    async fn make_network(
        &self,
        name: &str,
        labels: HashMap<String, String>,
        internal: bool,
    ) -> Result<(), Refusal> {
        let options = NetworkCreateOpts::builder().name(name).driver("bridge").labels(labels);
        // Without names of its own, an internal network gives the machine no address in it.
        let options = options.internal(internal).dns_enabled(false);
        self.api.networks().create(&options.build()).await?;
        Ok(())
    }

    async fn place(&self, container: &str, network: &str) -> Result<Option<Place>, Refusal> {
        let found = self.api.containers().get(container).inspect().await?;
        let networks = found.network_settings.and_then(|settings| settings.networks);
        let place = networks.and_then(|mut networks| networks.remove(network));
        Ok(place.and_then(|place| Place::new(place.ip_address, place.gateway)))
    }

    async fn cut_off(&self, _: &Plan<'_>) -> Result<(), Refusal> {
        Err(Refusal::Answer(200, "its internal network has a gateway".to_owned()))
    }

    async fn remove_network(&self, name: &str) -> Result<(), Refusal> {
        self.api.networks().get(name).delete().await?;
        Ok(())
    }

    async fn networks(&self) -> Result<Vec<Ours>, Refusal> {
        let ours = NetworkListFilter::LabelKey(STARTED_LABEL.to_owned());
        let options = NetworkListOpts::builder().filter([ours]).build();
        let networks = self.api.networks().list(&options).await?;
        let ours = networks.into_iter().filter_map(|it| Ours::new(it.name?, it.labels?, false));
        Ok(ours.collect())
    }

    async fn is_there(&self, name: &str) -> bool {
        self.api.containers().get(name).exists().await.unwrap_or(true)
    }

    fn last_words(&self, _: &str, folder: &Path) -> Vec<String> {
        let log = std::fs::read_to_string(folder.join(spec::LOG)).unwrap_or_default();
        // Each line begins with the time, the stream and a mark.
        log.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).map(str::to_owned).collect()
    }

    async fn remove(&self, name: &str, force: bool) -> Result<(), Refusal> {
        let options = ContainerDeleteOpts::builder().volumes(true).timeout(0).force(force);
        Ok(self.api.containers().get(name).delete(&options.build()).await?)
    }

    async fn containers(&self) -> Result<Vec<Ours>, Refusal> {
        let ours = ContainerListFilter::LabelKey(STARTED_LABEL.to_owned());
        let options = ContainerListOpts::builder().all(true).filter([ours]);
        let containers = self.api.containers().list(&options.build()).await?;
        let ours = containers.into_iter().filter_map(|container| {
            let runs = matches!(container.state?.as_str(), "running" | "paused" | "stopping");
            Ours::new(container.names?.pop()?, container.labels?, runs)
        });
        Ok(ours.collect())
    }
}

impl Service {
    /// Does not connect yet.
    pub(super) fn at(socket: &Path) -> Service {
        Service { socket: socket.to_owned(), api: podman_api::Podman::unix(socket) }
    }

    /// Makes a container of a specification.
    ///
    /// `podman-api` does this too, but misspells `no_new_privileges`, which the engine ignores.
    async fn create(&self, spec: &Value) -> Result<(), Refusal> {
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

#[cfg(test)]
mod tests {
    #[test]
    fn a_cause_is_said_once() {
        let said = "failed to find image a:1: image not known";
        assert_eq!(super::without_echo(&format!("{said}: image not known")), said);
        assert_eq!(super::without_echo("one: two"), "one: two");
    }
}
