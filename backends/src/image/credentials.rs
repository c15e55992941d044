//! What registries are asked with: the credentials that `docker login` or `podman login` keep.

use docker_credential::{DockerCredential, get_credential, get_podman_credential};
use oci_client::Reference;

/// A name and a password.
pub(crate) struct Credentials {
    pub(crate) name: String,
    pub(crate) password: String,
}

impl Credentials {
    /// Those for the registry of an image, if this user has any.
    pub(crate) fn of(reference: &str) -> Option<Credentials> {
        let image: Reference = reference.parse().ok()?;
        // Docker's own registry has an older name there.
        let names: &[&str] = match image.registry() {
            "docker.io" => &["https://index.docker.io/v1/", "docker.io"],
            other => &[other],
        };
        let found = names
            .iter()
            .find_map(|name| get_credential(name).or_else(|_| get_podman_credential(name)).ok());
        match found? {
            DockerCredential::UsernamePassword(name, password) => {
                Some(Credentials { name, password })
            }
            // A token is for the login of one engine.
            DockerCredential::IdentityToken(_) => None,
        }
    }
}
