//! Removes what killed runs have left.

use std::fs;
use std::path::Path;

use crate::choose::podman_sockets;
use crate::docker::sockets as docker_sockets;
use crate::engine::Engages;
use crate::image::Shelf;
use crate::{BackendError, Docker, Podman, sandbox, scenario};

/// Removes containers, folders and control groups of runs whose process is gone, and with `images`
/// all unpacked images; tells what was removed, and what could not be.
pub fn clean(images: bool) -> (Vec<String>, Vec<String>) {
    let (mut removed, mut troubles) = (Vec::new(), Vec::new());
    let here = Path::new(".");
    let podman = podman_sockets().unwrap_or_default().into_iter();
    let podman = podman.map(|socket| Podman::connect(&socket, here)?.engaged().clean());
    let docker = docker_sockets().unwrap_or_default().into_iter();
    let docker = docker.map(|socket| Docker::connect(&socket, here)?.engaged().clean());
    for cleaned in podman.chain(docker) {
        match cleaned {
            Ok(names) => removed.extend(names),
            // An engine that is not up has no containers that are.
            Err(BackendError::Unavailable { .. }) => {}
            Err(error) => troubles.push(error.to_string()),
        }
    }
    let folders = scenario::sweep().into_iter();
    removed.extend(folders.map(|path| format!("the folder {}", path.display())));
    let groups = sandbox::sweep_cgroups().into_iter();
    removed.extend(groups.map(|path| format!("the control group {}", path.display())));
    if images {
        let folder = Shelf::of_user().folder().to_owned();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if fs::remove_dir_all(entry.path()).is_ok() {
                removed.push(format!("the image {}", entry.file_name().to_string_lossy()));
            }
        }
    }
    (removed, troubles)
}
