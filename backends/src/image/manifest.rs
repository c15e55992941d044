//! Which image a place holds: by an OCI index, or by the manifest that `docker save` writes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use sha2::{Digest, Sha256};

use super::place::Place;
use super::{Config, architecture, tcp_ports};

/// Indexes may name indexes, this deep.
const DEEPEST: usize = 4;

/// An image found in a place.
pub(super) struct Found {
    /// `sha256:` and the digest of its configuration.
    pub(super) id: String,
    pub(super) config: Config,
    /// The same as it is written.
    pub(super) raw_config: Vec<u8>,
    /// Its layers, the lowest first.
    pub(super) layers: Vec<Layer>,
}

/// A layer of an image.
pub(super) struct Layer {
    /// The file it is in, which may be compressed.
    pub(super) name: String,
    /// The digest of that file, where it is told.
    pub(super) digest: Option<String>,
    /// The digest of its archive, as the configuration tells it.
    pub(super) diff_id: String,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    architecture: String,
    config: Option<Run>,
    rootfs: RootFs,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Run {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
    user: Option<String>,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// The image for this machine in `place`; `None` when that holds none, so it may be a root.
pub(super) fn find(place: &Place) -> Result<Option<Found>, String> {
    if place.has("oci-layout") {
        let index: Index = parse("index.json", &place.read("index.json")?)?;
        return in_index(place, index, 0).map(Some);
    }
    if place.has("manifest.json") {
        return saved(place).map(Some);
    }
    Ok(None)
}

fn in_index(place: &Place, index: Index, depth: usize) -> Result<Found, String> {
    let fits = |descriptor: &&Descriptor| {
        let platform = descriptor.platform.as_ref();
        platform.is_none_or(|it| it.os == "linux" && it.architecture == architecture())
    };
    let mut fitting = index.manifests.iter().filter(fits);
    let Some(descriptor) = fitting.next() else {
        let platforms = index.manifests.iter().flat_map(|descriptor| &descriptor.platform);
        let names: Vec<String> = platforms
            .map(|platform| format!("{}/{}", platform.os, platform.architecture))
            .collect();
        let (wanted, there) = (architecture(), names.join(", "));
        return Err(format!("it has no image for linux/{wanted}, but for: {there}"));
    };
    if let Some(other) = fitting.next() {
        let (one, other) = (&descriptor.digest, &other.digest);
        return Err(format!("it has several images, {one} and {other}: write one into each"));
    }
    let content = blob(place, &descriptor.digest)?;
    let is_index =
        descriptor.media_type.contains("index") || descriptor.media_type.contains("list");
    if is_index && depth < DEEPEST {
        return in_index(place, parse(&descriptor.digest, &content)?, depth + 1);
    }
    let manifest: Manifest = parse(&descriptor.digest, &content)?;
    let layers = manifest.layers.into_iter().map(|layer| {
        let name = blob_name(&layer.digest)?;
        Ok((name, Some(layer.digest)))
    });
    let config = blob(place, &manifest.config.digest)?;
    found(config, layers.collect::<Result<_, String>>()?)
}

fn saved(place: &Place) -> Result<Found, String> {
    let images: Vec<Saved> = parse("manifest.json", &place.read("manifest.json")?)?;
    let many = images.len();
    let [image] = <[Saved; 1]>::try_from(images)
        .map_err(|_| format!("it has {many} images: write one into each archive"))?;
    let layers = image.layers.into_iter().map(|name| (name, None)).collect();
    found(place.read(&image.config)?, layers)
}

fn found(raw: Vec<u8>, layers: Vec<(String, Option<String>)>) -> Result<Found, String> {
    let id = digest_of(&raw);
    let Configuration { architecture: of, config, rootfs } = parse("its configuration", &raw)?;
    if !of.is_empty() && of != architecture() {
        return Err(format!("it is for {of}, and this machine is {}", architecture()));
    }
    if rootfs.diff_ids.len() != layers.len() {
        let (told, there) = (rootfs.diff_ids.len(), layers.len());
        return Err(format!("its configuration tells of {told} layers, and {there} are there"));
    }
    let layers = layers.into_iter().zip(rootfs.diff_ids);
    let run = config.unwrap_or_default();
    Ok(Found {
        id,
        config: Config {
            env: run.env.unwrap_or_default(),
            command: run.entrypoint.into_iter().chain(run.cmd).flatten().collect(),
            workdir: run.working_dir.unwrap_or_default(),
            ports: tcp_ports(run.exposed_ports.unwrap_or_default().keys()),
            user: run.user.unwrap_or_default(),
        },
        raw_config: raw,
        layers: layers.map(|((name, digest), diff_id)| Layer { name, digest, diff_id }).collect(),
    })
}

/// A blob that is what its name says.
fn blob(place: &Place, digest: &str) -> Result<Vec<u8>, String> {
    let content = place.read(&blob_name(digest)?)?;
    let is = digest_of(&content);
    if is == digest {
        Ok(content)
    } else {
        Err(format!("the blob {digest} is damaged: it is {is}"))
    }
}

/// The file of a blob in a layout.
pub(super) fn blob_name(digest: &str) -> Result<String, String> {
    let hex = digest
        .strip_prefix("sha256:")
        .filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hex.map(|hex| format!("blobs/sha256/{hex}"))
        .ok_or_else(|| format!("`{digest}` is no digest of the kind sha256"))
}

pub(super) fn digest_of(content: &[u8]) -> String {
    named(Sha256::digest(content))
}

/// A digest as images write it.
pub(super) fn named(digest: impl AsRef<[u8]>) -> String {
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn parse<T: DeserializeOwned>(name: &str, content: &[u8]) -> Result<T, String> {
    serde_json::from_slice(content).map_err(|error| format!("{name} cannot be read: {error}"))
}
