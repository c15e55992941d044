//! Volumes have absolute targets, and sources that are safe to show.

use crate::diagnostic::{At, Problem};
use crate::model::Test;

/// Targets that would take a container's own files away.
const TAKEN: [&str; 6] = ["/", "/dev", "/proc", "/run", "/run/clnrm", "/sys"];

pub(super) fn check(test: &Test, problems: &mut Vec<Problem>) {
    for volume in test.services.iter().flat_map(|service| &service.volumes) {
        let at = At::Key(volume.path.clone());
        let target = volume.container.trim_end_matches('/');
        let climbs = volume.container.split('/').any(|part| part == "..");
        if !volume.container.starts_with('/') || climbs {
            let message = format!("`{}` is no absolute path", volume.container);
            problems.push(Problem::error("shape/volume-target", at.clone(), message));
        } else if TAKEN.contains(&target) || target.is_empty() {
            let message = format!("`{}` belongs to the container", volume.container);
            problems.push(Problem::error("shape/volume-target", at.clone(), message));
        }
        if volume.host.starts_with('/') || volume.host.starts_with("..") {
            let message = format!("`{}` lies outside the workspace", volume.host);
            let problem = Problem::warning("shape/volume-outside", at, message);
            problems.push(problem.hint("such a test may not run on another machine"));
        }
    }
}
