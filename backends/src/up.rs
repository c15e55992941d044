//! The services that are up now, by the labels of the engines' containers.

use std::path::PathBuf;
use std::time::Duration;

use crate::choose::of_all_engines;
use crate::engine::Engages;

/// A service that is up.
#[derive(Clone, Debug, PartialEq)]
pub struct Up {
    /// Its name.
    pub service: String,
    /// The folder of its test.
    pub workspace: PathBuf,
    /// What it runs in.
    pub container: String,
    /// For how long.
    pub age: Duration,
}

/// All services in containers of engines that answer, and what is wrong with others.
pub fn services_up() -> (Vec<Up>, Vec<String>) {
    let (all, troubles) = of_all_engines(|it| it.engaged().up(), |it| it.engaged().up());
    let mut all: Vec<Up> = all.into_iter().flatten().collect();
    all.sort_by(|a, b| (&a.workspace, &a.container).cmp(&(&b.workspace, &b.container)));
    (all, troubles)
}
