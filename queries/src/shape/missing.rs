//! What a test takes from this machine is there: mounts, and images in files.

use clnrm_engine::{Content, Cx};

use crate::diagnostic::{At, Problem};
use crate::model::Test;
use crate::plan::{missing_image, missing_volume, needs_default_service};
use crate::settings::{self, SETTINGS};

/// What is missing, by the same words as when it is planned.
pub(super) fn check(cx: &Cx<'_>, test: &Test) -> Vec<Problem> {
    let mut problems = Vec::new();
    for service in test.services.iter().filter(|service| service.outside.is_none()) {
        let at = match &service.image {
            Some(_) => service.path.key("image"),
            None => service.path.clone(),
        };
        problems.extend(image(cx, service.image.as_deref(), At::Key(at)));
        let missing = service.volumes.iter().filter(|volume| is_missing(cx, &volume.host));
        problems.extend(missing.map(missing_volume));
    }
    for scenario in test.scenarios.iter().filter(|scenario| needs_default_service(scenario)) {
        problems.extend(image(cx, None, At::Key(scenario.path.clone())));
    }
    problems
}

/// An image in a file, if it is missing; other images are looked for when a test is run.
fn image(cx: &Cx<'_>, reference: Option<&str>, at: At) -> Option<Problem> {
    let settings = cx.get(&SETTINGS, &settings::unit());
    let path = reference.unwrap_or(&settings.default_image).strip_prefix("oci:")?;
    is_missing(cx, path).then(|| missing_image(path, at))
}

/// Whether nothing is at a path, without reading what is there where that can be large.
fn is_missing(cx: &Cx<'_>, path: &str) -> bool {
    let path = path.trim_start_matches("./").trim_end_matches('/');
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let is_plain = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if path.is_empty() || path == "." {
        false
    } else if is_plain {
        match cx.list(folder) {
            Ok(Some(listed)) => !listed.iter().any(|one| one.name.as_deref() == Ok(name)),
            Ok(None) => true,
            Err(_) => false,
        }
    } else {
        // Folders outside have much else in them, which changes at any time.
        matches!(cx.file(path), Content::Absent)
    }
}
