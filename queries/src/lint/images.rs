//! Images are named so that they stay what they are.

use crate::diagnostic::{At, Problem};
use crate::model::Test;

pub(super) fn check(test: &Test, problems: &mut Vec<Problem>) {
    for service in &test.services {
        let Some(image) = service.image.as_deref().filter(|image| is_loose(image)) else {
            continue;
        };
        let at = At::Key(service.path.key("image"));
        let message = format!("the image `{image}` may be another one tomorrow");
        let problem = Problem::warning("lint/loose-image", at, message);
        problems.push(problem.hint("name a version or a digest"));
    }
}

/// Whether a reference names neither a version nor a digest.
fn is_loose(image: &str) -> bool {
    if image == "host" || image.starts_with("oci:") || image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}
