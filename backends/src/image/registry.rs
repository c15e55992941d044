//! Images from registries, as OCI layouts.

use std::fs;
use std::path::Path;
use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::json;

use super::Credentials;
use super::manifest::{blob_name, digest_of};

/// The kinds of manifests of one image.
const KINDS: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Writes the image that `reference` means now to `layout`.
///
/// Machines by the name of `localhost` are asked without encryption.
pub(crate) async fn pull(reference: &str, layout: &Path) -> Result<(), String> {
    crate::provide_cryptography();
    let image: Reference = reference.parse().map_err(|error| format!("{error}"))?;
    let registry = image.resolve_registry().to_owned();
    let plain = matches!(registry.split(':').next(), Some("localhost" | "127.0.0.1"));
    let protocol = if plain { ClientProtocol::Http } else { ClientProtocol::Https };
    let client = Client::new(ClientConfig {
        protocol,
        connect_timeout: Some(Duration::from_secs(10)),
        read_timeout: Some(Duration::from_secs(60)),
        ..ClientConfig::default()
    });
    let told = |error: oci_client::errors::OciDistributionError| explain(&registry, &error);
    let auth = match Credentials::of(reference) {
        Some(Credentials { name, password }) => RegistryAuth::Basic(name, password),
        None => RegistryAuth::Anonymous,
    };
    // Which one of several is for this machine is decided here; the manifest itself is kept as it
    // is, for its digest.
    let (manifest, digest) = client.pull_image_manifest(&image, &auth).await.map_err(told)?;
    let exact = image.clone_with_digest(digest);
    let (raw, _) = client.pull_manifest_raw(&exact, &auth, &KINDS).await.map_err(told)?;
    let written = |error: std::io::Error| format!("cannot write {}: {error}", layout.display());
    fs::create_dir_all(layout.join("blobs/sha256")).map_err(written)?;
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        let file = layout.join(blob_name(&blob.digest)?);
        let file = tokio::fs::File::create(file).await.map_err(written)?;
        client.pull_blob(&exact, blob, file).await.map_err(told)?;
    }
    let digest = digest_of(&raw);
    fs::write(layout.join(blob_name(&digest)?), &raw).map_err(written)?;
    let index = json!({"manifests": [{"digest": digest}]}).to_string();
    fs::write(layout.join("index.json"), index).map_err(written)?;
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).map_err(written)
}

/// The last cause is the one people can do something about.
fn explain(registry: &str, error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    format!("{registry}: {cause}")
}
