//! Images in files: OCI layouts, archives of them, docker-archives, and folders that are a root.
//!
//! An image is known by its id, the digest of its configuration, which names the digests of its
//! layers. It is unpacked once, into a folder of this user by the name of the id.

mod credentials;
mod manifest;
mod place;
pub(crate) mod pull;
mod registry;
mod save;
mod shelf;
mod unpack;
mod user;

use serde::{Deserialize, Serialize};

pub(crate) use self::credentials::Credentials;
pub(crate) use self::registry::pull as pull_layout;
pub(crate) use self::shelf::{Shelf, Source, Unpacked};
pub(crate) use self::user::User;

/// How references to images in files begin.
pub(crate) const PREFIX: &str = "oci:";

/// What an image says of how it is run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Config {
    /// `NAME=value` of every variable.
    pub(crate) env: Vec<String>,
    /// Entry point and command.
    pub(crate) command: Vec<String>,
    /// Where processes start; the root when empty.
    pub(crate) workdir: String,
    /// The TCP ports that are listened on.
    #[serde(default)]
    pub(crate) ports: Vec<u16>,
    /// `user[:group]` as names or numbers; root when empty.
    pub(crate) user: String,
}

/// The TCP ports among those that an image exposes: `80`, `80/tcp` or `53/udp`.
pub(crate) fn tcp_ports<'a>(exposed: impl IntoIterator<Item = &'a String>) -> Vec<u16> {
    let port = |text: &String| match text.split_once('/') {
        None => text.parse().ok(),
        Some((port, "tcp")) => port.parse().ok(),
        Some(_) => None,
    };
    exposed.into_iter().filter_map(port).collect()
}

/// The name of this machine's architecture in images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

#[cfg(test)]
mod tests;
