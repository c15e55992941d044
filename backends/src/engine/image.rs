//! Images as the engine knows them, and the image `host`, which it is given.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use tar::{EntryType, Header};

use super::{Engine, Refusal, failed};
use crate::action::Image;
use crate::error::BackendError;
use crate::host;

/// What an engine says of an image.
pub(crate) struct ImageFacts {
    /// What the engine knows it by, whatever its names come to mean.
    pub(crate) id: String,
    /// Entry point and command.
    pub(crate) command: Vec<String>,
    /// Whose user it runs as.
    pub(crate) user: String,
    /// The TCP ports it exposes.
    pub(crate) ports: Vec<u16>,
}

/// What has been learnt of images; an id never changes its meaning.
#[derive(Default)]
pub(super) struct Images {
    facts: Mutex<HashMap<String, Facts>>,
    /// Held while the host image is looked for, so that it is made once.
    host: tokio::sync::Mutex<()>,
}

/// What matters of an image when a container is made of it.
#[derive(Clone)]
pub(crate) struct Facts {
    /// What the engine knows it by.
    pub(crate) reference: String,
    /// Entry point and command.
    pub(super) command: Vec<String>,
    /// The TCP ports it exposes.
    pub(super) ports: Vec<u16>,
    /// Whether it is the engine's image and runs as root.
    pub(crate) as_root: bool,
    /// Whether it shows this machine's folders.
    pub(crate) of_host: bool,
}

impl From<ImageFacts> for Facts {
    fn from(ImageFacts { id, command, user, ports }: ImageFacts) -> Facts {
        let as_root = matches!(user.split(':').next(), None | Some("" | "0" | "root"));
        Facts { reference: id, command, ports, as_root, of_host: false }
    }
}

impl Images {
    /// The id of an image the engine has.
    pub(super) async fn find<E: Engine>(
        &self,
        engine: &E,
        reference: &str,
    ) -> Result<Option<String>, BackendError> {
        let operation = format!("look for the image `{reference}`");
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
        if reference.is_empty() || !reference.chars().all(plain) {
            return Err(failed::<E>(&operation, "that is not an image reference"));
        }
        let found = engine.inspect(reference).await;
        let found = found.map_err(|refusal| refusal.error(engine, &operation))?;
        Ok(found.map(|image| self.learn(image)))
    }

    /// What matters of `image`; the image `host` is made if the engine does not have it.
    pub(super) async fn facts<E: Engine>(
        &self,
        engine: &E,
        image: &Image,
    ) -> Result<Facts, BackendError> {
        let id = match image {
            Image::Host(_) => {
                let reference = self.host(engine).await.map_err(|refusal| {
                    refusal.error(engine, "take in the image of this machine")
                })?;
                return Ok(Facts {
                    reference,
                    command: Vec::new(),
                    ports: Vec::new(),
                    as_root: false,
                    of_host: true,
                });
            }
            Image::Id(id) => id,
        };
        if let Some(facts) = self.known(id) {
            return Ok(facts);
        }
        let operation = "look at an image";
        let found = engine.inspect(id).await.map_err(|refusal| refusal.error(engine, operation))?;
        let found = found.ok_or_else(|| failed::<E>(operation, format!("{id} is gone")))?;
        let id = self.learn(found);
        Ok(self.known(&id).expect("it was just learnt"))
    }

    fn known(&self, id: &str) -> Option<Facts> {
        self.facts.lock().expect("no holder panics").get(id).cloned()
    }

    fn learn(&self, image: ImageFacts) -> String {
        let id = image.id.clone();
        self.facts.lock().expect("no holder panics").insert(id.clone(), image.into());
        id
    }

    /// The name of the image `host`, which is there afterwards.
    async fn host<E: Engine>(&self, engine: &E) -> Result<String, Refusal> {
        let layout = layout();
        let digest = blake3::hash(&layout).to_hex();
        let reference = format!("localhost/clnrm/host:{}", &digest[..16]);
        let _guard = self.host.lock().await;
        if engine.inspect(&reference).await?.is_none() {
            engine.import(&reference, layout).await?;
        }
        Ok(reference)
    }
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
