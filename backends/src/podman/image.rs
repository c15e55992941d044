//! Images as the engine knows them, and the image `host`, which it is given.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use podman_api::opts::ImageImportOpts;
use tar::{EntryType, Header};

use super::service::{Refusal, Service};
use crate::action::Image;
use crate::error::BackendError;
use crate::host;

/// How engines say that they do not have an image.
const UNKNOWN: [&str; 3] = ["no such image", "image not known", "failed to find image"];

/// What has been learnt of images; an id never changes its meaning.
#[derive(Default)]
pub(super) struct Images {
    facts: Mutex<HashMap<String, Facts>>,
    /// Held while the host image is looked for, so that it is made once.
    host: tokio::sync::Mutex<()>,
}

/// What matters of an image when a container is made of it.
#[derive(Clone)]
pub(super) struct Facts {
    /// What the engine knows it by.
    pub(super) reference: String,
    /// Entry point and command.
    pub(super) command: Vec<String>,
    /// Whether it is the engine's image and runs as root.
    pub(super) as_root: bool,
    /// Whether it shows this machine's folders.
    pub(super) of_host: bool,
}

impl Images {
    /// The id of an image the engine has.
    pub(super) async fn find(
        &self,
        service: &Service,
        reference: &str,
    ) -> Result<Option<String>, BackendError> {
        let operation = format!("look for the image `{reference}`");
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
        if reference.is_empty() || !reference.chars().all(plain) {
            return Err(service.failed(&operation, "that is not an image reference"));
        }
        match inspect(service, reference).await {
            Ok((id, facts)) => {
                self.facts.lock().expect("no holder panics").insert(id.clone(), facts);
                Ok(Some(id))
            }
            Err(Refusal::Answer(404 | 500, message))
                if UNKNOWN.iter().any(|unknown| message.contains(unknown)) =>
            {
                Ok(None)
            }
            Err(refusal) => Err(service.error(&operation, refusal)),
        }
    }

    /// What matters of `image`; the image `host` is made if the engine does not have it.
    pub(super) async fn facts(
        &self,
        service: &Service,
        image: &Image,
    ) -> Result<Facts, BackendError> {
        let id = match image {
            Image::Host(_) => {
                let reference = self.host(service).await.map_err(|refusal| {
                    service.error("take in the image of this machine", refusal)
                })?;
                return Ok(Facts { reference, command: Vec::new(), as_root: false, of_host: true });
            }
            Image::Id(id) => id,
        };
        let known = self.facts.lock().expect("no holder panics").get(id).cloned();
        if let Some(facts) = known {
            return Ok(facts);
        }
        let (_, facts) = inspect(service, id)
            .await
            .map_err(|refusal| service.error("look at an image", refusal))?;
        self.facts.lock().expect("no holder panics").insert(id.clone(), facts.clone());
        Ok(facts)
    }

    /// The name of the image `host`, which is there afterwards.
    async fn host(&self, service: &Service) -> Result<String, Refusal> {
        let layout = layout();
        let digest = blake3::hash(&layout).to_hex();
        let reference = format!("localhost/clnrm/host:{}", &digest[..16]);
        let _guard = self.host.lock().await;
        let images = service.api.images();
        if !images.get(&reference).exists().await? {
            let options =
                ImageImportOpts::builder().reference(&reference).changes(["WORKDIR /"]).build();
            images.import(&options, layout).await?;
        }
        Ok(reference)
    }
}

async fn inspect(service: &Service, reference: &str) -> Result<(String, Facts), Refusal> {
    let image = service.api.images().get(reference).inspect().await?;
    let id = image.id.ok_or_else(|| Refusal::Answer(200, "the image has no id".to_owned()))?;
    let config = image.config;
    let user = config.as_ref().and_then(|config| config.user.clone()).unwrap_or_default();
    let [entrypoint, command] =
        config.map_or([None, None], |config| [config.entrypoint, config.cmd]);
    let facts = Facts {
        reference: id.clone(),
        command: entrypoint.into_iter().chain(command).flatten().collect(),
        as_root: matches!(user.split(':').next(), None | Some("" | "0" | "root")),
        of_host: false,
    };
    Ok((id, facts))
}

/// An archive of the folders and links of this machine's root, without anything in them.
fn layout() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, mode: u32, link: Option<&Path>| {
        let mut header = Header::new_gnu();
        // As it is: engines skip a root by the name of `.`, and make one nobody may write to.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(if link.is_some() {
            EntryType::Symlink
        } else {
            EntryType::Directory
        });
        if let Some(link) = link {
            header.set_link_name(link).expect("links between system folders are short");
        }
        header.set_mode(mode);
        header.set_size(0);
        header.set_cksum();
        archive.append(&header, std::io::empty()).expect("memory takes all");
    };
    add("/", 0o755, None);
    add("var", 0o755, None);
    for path in host::EMPTY {
        let mode = match path {
            "/tmp" | "/var/tmp" => 0o1777,
            "/root" => 0o700,
            _ => 0o755,
        };
        add(&path[1..], mode, None);
    }
    for path in host::SHOWN {
        match fs::read_link(path) {
            Ok(link) => add(&path[1..], 0o777, Some(&link)),
            Err(_) if Path::new(path).is_dir() => add(&path[1..], 0o755, None),
            Err(_) => {}
        }
    }
    archive.into_inner().expect("memory takes all")
}
