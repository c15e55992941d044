//! The line to Docker's service.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::{ContainerSummaryStateEnum as State, NetworkCreateRequest};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, CreateImageOptionsBuilder,
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder,
    UploadToContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, body_full, body_try_stream};
use futures_util::{StreamExt, TryStreamExt};
use tokio_util::io::ReaderStream;

use super::spec::{self, Copy, Spec};
use crate::engine::{Engine, Files, ImageFacts, Ours, Place, Plan, Refusal, STARTED_LABEL, chain};
use crate::image::{Credentials, tcp_ports};

/// Seconds after which a request is given up that the engine does not answer.
const PATIENCE: u64 = 60;
/// The options of a network by which the machine gets no address in it: the second is for engines
/// that do not know the first.
const ISOLATED: [(&str, &str); 2] = [
    ("com.docker.network.bridge.gateway_mode_ipv4", "isolated"),
    ("com.docker.network.bridge.inhibit_ipv4", "true"),
];
/// The most an agent that cannot serve has to say, in bytes.
const LONGEST_WORDS: usize = 4096;

/// Docker's service at a socket.
#[derive(Clone)]
pub(crate) struct Service {
    socket: PathBuf,
    /// None as long as there is no socket.
    api: Result<bollard::Docker, String>,
    /// What agents said on their standard error, by the names of their containers.
    words: Arc<Mutex<HashMap<String, String>>>,
}

impl Engine for Service {
    const NAME: &'static str = "Docker";
    const REMOTE: &'static str = "--host";

    type Spec = Spec;

    fn socket(&self) -> &Path {
        &self.socket
    }

    fn layers_host() -> bool {
        // The files of a layer belong to root, and nobody else could remove them afterwards.
        rustix::process::geteuid().is_root()
    }

    async fn greet(&self) -> Result<(), Refusal> {
        self.api()?.clone().negotiate_version().await?;
        Ok(())
    }

    async fn inspect(&self, reference: &str) -> Result<Option<ImageFacts>, Refusal> {
        let image = match self.api()?.inspect_image(reference).await.map_err(Refusal::from) {
            Ok(image) => image,
            Err(Refusal::Answer(404, _)) => return Ok(None),
            Err(refusal) => return Err(refusal),
        };
        let id = image.id.ok_or_else(|| Refusal::Answer(200, "the image has no id".to_owned()))?;
        let config = image.config.unwrap_or_default();
        let command = config.entrypoint.into_iter().chain(config.cmd).flatten().collect();
        let ports = tcp_ports(config.exposed_ports.iter().flatten());
        Ok(Some(ImageFacts { id, command, user: config.user.unwrap_or_default(), ports }))
    }

    async fn pull(&self, reference: &str) -> Result<(), Refusal> {
        let options = CreateImageOptionsBuilder::new().from_image(reference);
        let credentials = Credentials::of(reference).map(|found| DockerCredentials {
            username: Some(found.name),
            password: Some(found.password),
            ..DockerCredentials::default()
        });
        let steps = self.api()?.create_image(Some(options.build()), None, credentials);
        steps.try_for_each(|_| async { Ok(()) }).await?;
        Ok(())
    }

    async fn import(&self, reference: &str, root: Vec<u8>) -> Result<(), Refusal> {
        let (repository, tag) = reference.rsplit_once(':').unwrap_or((reference, "latest"));
        let options = CreateImageOptionsBuilder::new()
            .from_src("-")
            .repo(repository)
            .tag(tag)
            .changes(vec!["WORKDIR /".to_owned()]);
        let root = Some(body_full(root.into()));
        let steps = self.api()?.create_image(Some(options.build()), root, None);
        steps.try_for_each(|_| async { Ok(()) }).await?;
        Ok(())
    }

    fn spec(&self, plan: &Plan<'_>, files: Files) -> io::Result<Spec> {
        spec::spec(plan, files)
    }

    async fn start(self, name: String, spec: Spec) -> Result<(), Refusal> {
        let api = self.api()?;
        let options = CreateContainerOptionsBuilder::new().name(&name);
        api.create_container(Some(options.build()), spec.body).await?;
        for copy in spec.copies {
            self.copy(&name, copy).await?;
        }
        self.listen_to(&name).await?;
        api.start_container(&name, None).await?;
        Ok(())
    }

    async fn make_network(
        &self,
        name: &str,
        labels: HashMap<String, String>,
        internal: bool,
    ) -> Result<(), Refusal> {
        let isolated = HashMap::from(ISOLATED.map(|(name, value)| (name.into(), value.into())));
        self.api()?
            .create_network(NetworkCreateRequest {
                name: name.to_owned(),
                internal: Some(internal),
                options: internal.then_some(isolated),
                labels: Some(labels),
                ..NetworkCreateRequest::default()
            })
            .await?;
        Ok(())
    }

    async fn place(&self, container: &str, network: &str) -> Result<Option<Place>, Refusal> {
        let found = self.api()?.inspect_container(container, None).await?;
        let networks = found.network_settings.and_then(|settings| settings.networks);
        let place = networks.and_then(|mut networks| networks.remove(network));
        Ok(place.and_then(|place| Place::new(place.ip_address, place.gateway)))
    }

    async fn cut_off(&self, plan: &Plan<'_>) -> Result<(), Refusal> {
        let (api, name) = (self.api()?, format!("{}-cut-off", plan.name));
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        api.create_container(Some(options), spec::cut_off(plan)).await?;
        api.start_container(&name, None).await?;
        let mut ends = api.wait_container(&name, None);
        let ended = ends.try_next().await;
        self.remove(&name, true).await?;
        match ended {
            Ok(_) => Ok(()),
            Err(Error::DockerContainerWaitError { .. }) => {
                Err(Refusal::Answer(200, "its network has another way out".to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn remove_network(&self, name: &str) -> Result<(), Refusal> {
        Ok(self.api()?.remove_network(name).await?)
    }

    async fn networks(&self) -> Result<Vec<Ours>, Refusal> {
        let filters = HashMap::from([("label", vec![STARTED_LABEL])]);
        let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
        let networks = self.api()?.list_networks(Some(options)).await?;
        let ours = networks.into_iter().filter_map(|it| Ours::new(it.name?, it.labels?, false));
        Ok(ours.collect())
    }

    async fn is_there(&self, name: &str) -> bool {
        let Ok(api) = self.api() else { return false };
        let found = api.inspect_container(name, None).await.map_err(Refusal::from);
        !matches!(found, Err(Refusal::Answer(404, _)))
    }

    fn last_words(&self, name: &str, _: &Path) -> Vec<String> {
        let words = self.words.lock().expect("no holder panics").remove(name).unwrap_or_default();
        words.lines().map(str::to_owned).collect()
    }

    async fn remove(&self, name: &str, force: bool) -> Result<(), Refusal> {
        self.words.lock().expect("no holder panics").remove(name);
        let options = RemoveContainerOptionsBuilder::new().force(force).v(true);
        Ok(self.api()?.remove_container(name, Some(options.build())).await?)
    }

    async fn containers(&self) -> Result<Vec<Ours>, Refusal> {
        let filters = HashMap::from([("label", vec![STARTED_LABEL])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters);
        let containers = self.api()?.list_containers(Some(options.build())).await?;
        let ours = containers.into_iter().filter_map(|container| {
            let at_rest =
                matches!(container.state, Some(State::CREATED | State::DEAD | State::EXITED));
            Ours::new(container.names?.pop()?, container.labels?, !at_rest)
        });
        Ok(ours.collect())
    }
}

impl Service {
    /// Does not connect yet.
    pub(super) fn at(socket: &Path) -> Service {
        let place = socket.display().to_string();
        let api = bollard::Docker::connect_with_unix(&place, PATIENCE, API_DEFAULT_VERSION);
        let api = api.map_err(|error| match error {
            Error::SocketNotFoundError(_) => "there is no such socket".to_owned(),
            error => chain(&error),
        });
        Service { socket: socket.to_owned(), api, words: Arc::default() }
    }

    fn api(&self) -> Result<&bollard::Docker, Refusal> {
        self.api.as_ref().map_err(|reason| Refusal::Unreachable(reason.clone()))
    }

    /// Keeps what the agent of a container says that was not started yet.
    async fn listen_to(&self, name: &str) -> Result<(), Refusal> {
        let options = AttachContainerOptionsBuilder::new().stderr(true).stream(true);
        let attached = self.api()?.attach_container(name, Some(options.build())).await?;
        let (words, name, mut output) = (self.words.clone(), name.to_owned(), attached.output);
        tokio::spawn(async move {
            while let Some(Ok(said)) = output.next().await {
                let mut words = words.lock().expect("no holder panics");
                let words = words.entry(name.clone()).or_default();
                if words.len() < LONGEST_WORDS {
                    words.push_str(&said.to_string());
                }
            }
        });
        Ok(())
    }

    /// Copies a folder into a volume of a container.
    async fn copy(
        &self,
        name: &str,
        Copy { source, target, archive }: Copy,
    ) -> Result<(), Refusal> {
        let told = |error: io::Error| Refusal::Answer(0, format!("cannot copy a mount: {error}"));
        let place = archive.clone();
        let packed = tokio::task::spawn_blocking(move || pack(&source, &place));
        packed.await.expect("packing does not panic").map_err(told)?;
        let file = tokio::fs::File::open(&archive).await.map_err(told)?;
        let body = body_try_stream(ReaderStream::new(file));
        let options = UploadToContainerOptionsBuilder::new().path(&target);
        self.api()?.upload_to_container(name, Some(options.build()), body).await?;
        fs::remove_file(&archive).map_err(told)
    }
}

/// Makes an archive of all that is in a folder but the store.
fn pack(folder: &Path, archive: &Path) -> io::Result<()> {
    let mut builder = tar::Builder::new(File::create(archive)?);
    builder.follow_symlinks(false);
    for entry in fs::read_dir(folder)? {
        let (name, path) = (entry.as_ref().map(fs::DirEntry::file_name), entry.as_ref());
        let (Ok(name), Ok(path)) = (name, path.map(fs::DirEntry::path)) else { continue };
        if name == crate::STORE {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            builder.append_dir_all(&name, &path)?;
        } else {
            builder.append_path_with_name(&path, &name)?;
        }
    }
    builder.into_inner()?.sync_data()
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                Refusal::Answer(status_code, message)
            }
            Error::DockerStreamError { error } => Refusal::Answer(200, error),
            error => Refusal::Unreachable(chain(&error)),
        }
    }
}
