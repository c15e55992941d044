//! `clnrm.toml`: settings of the whole workspace.

use std::time::Duration;

use clnrm_engine::{Cx, Query, Unit};
use serde::{Deserialize, Serialize};

use crate::diagnostic::{At, Problem};
use crate::document::DOCUMENT;

/// The settings file, or its older name.
pub const FILES: [&str; 2] = ["clnrm.toml", "cleanroom.toml"];

/// The workspace's settings; ask for [`unit`].
pub static SETTINGS: Query<Settings> = Query::new("settings", 1, settings).kept();

/// What a workspace has set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The image of services and steps that name none.
    pub default_image: String,
    /// The backend to use, as on the command line.
    pub backend: Option<String>,
    /// How many scenarios run at once.
    pub jobs: Option<usize>,
    /// Limit of a step.
    pub timeout: Option<Duration>,
    /// What is wrong with the file.
    pub problems: Vec<Problem>,
    /// The file they come from, when there is one.
    pub file: Option<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            default_image: "host".to_owned(),
            backend: None,
            jobs: None,
            timeout: None,
            problems: Vec::new(),
            file: None,
        }
    }
}

/// What [`SETTINGS`] is asked about: there is one.
pub fn unit() -> Unit {
    Unit::file("")
}

fn settings(cx: &Cx<'_>, _: &Unit) -> Settings {
    let mut settings = Settings::default();
    let there = |file: &&&str| cx.file(file).bytes().is_some();
    let Some(file) = FILES.iter().find(there) else { return settings };
    settings.file = Some((*file).to_owned());
    match cx.get(&DOCUMENT, &Unit::file(*file)).as_ref() {
        Ok(tree) => crate::model::read_settings(tree, &mut settings),
        Err(problem) => settings.problems.push(problem.clone()),
    }
    let backends = ["auto", "podman", "sandbox"];
    if let Some(name) = &settings.backend
        && !backends.contains(&name.as_str())
    {
        let at = At::Key(crate::diagnostic::KeyPath::top("backend"));
        let problem = Problem::error("settings/backend", at, format!("unknown backend `{name}`"));
        let problem = problem.did_you_mean(name, backends);
        settings.problems.push(problem);
    }
    settings
}
