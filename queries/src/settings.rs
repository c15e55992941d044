//! `clnrm.toml`: settings of the whole workspace.

use std::collections::BTreeMap;
use std::time::Duration;

use clnrm_engine::{Content, Cx, Query, Unit};
use serde::{Deserialize, Serialize};

use crate::diagnostic::{At, Diagnostic, KeyPath, Problem};
use crate::document::DOCUMENT;
use crate::report::Locator;

/// The settings file, or its older name.
pub const FILES: [&str; 2] = ["clnrm.toml", "cleanroom.toml"];

/// What `backend` may be.
const BACKENDS: [&str; 4] = ["auto", "podman", "docker", "sandbox"];

/// The workspace's settings; ask for [`unit`].
pub static SETTINGS: Query<Settings> = Query::new("settings", 3, settings).kept();

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
    /// How long services get to export their spans before they are stopped.
    pub settle: Option<Duration>,
    /// Variables of templates, as JSON.
    pub vars: BTreeMap<String, String>,
    /// What is wrong with the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            default_image: "host".to_owned(),
            backend: None,
            jobs: None,
            timeout: None,
            settle: None,
            vars: BTreeMap::new(),
            diagnostics: Vec::new(),
        }
    }
}

/// What [`SETTINGS`] is asked about: there is one.
pub fn unit() -> Unit {
    Unit::file("")
}

fn settings(cx: &Cx<'_>, _: &Unit) -> Settings {
    let mut settings = Settings::default();
    let there = |file: &&&str| cx.file(file) != Content::Absent;
    let Some(file) = FILES.iter().find(there) else { return settings };
    let unit = Unit::file(*file);
    let mut problems = match cx.get(&DOCUMENT, &unit).as_ref() {
        Ok(tree) => crate::model::read_settings(tree, &mut settings),
        Err(problem) => vec![problem.clone()],
    };
    if let Some(name) = &settings.backend
        && !BACKENDS.contains(&name.as_str())
    {
        let at = At::Key(KeyPath::top("backend"));
        let problem = Problem::error("settings/backend", at, format!("unknown backend `{name}`"));
        problems.push(problem.did_you_mean(name, BACKENDS));
    }
    let locator = Locator::new(cx, &unit);
    settings.diagnostics = locator.diagnostics(&problems);
    settings
}
