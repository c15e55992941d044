//! `clnrm plugins`

use crate::exit::Exit;
use crate::printer;

/// What `plugin` may be in a service, and what that means.
const PLUGINS: [(&str, &str); 7] = [
    (
        "generic_container",
        "a container of `image`, which is what a service without `plugin` is too",
    ),
    ("network_service", "a service outside at `endpoint`, which must answer before anything runs"),
    ("ollama", "the same, at http://localhost:11434 unless `endpoint` says otherwise"),
    (
        "otel_collector",
        "the service's name for what takes spans in every container; needs no image",
    ),
    ("surrealdb", "a database in memory on port 8000, with `username`, `password` and `strict`"),
    ("tgi", "a service outside, at http://localhost:8080 unless `endpoint` says otherwise"),
    ("vllm", "a service outside, at http://localhost:8000 unless `endpoint` says otherwise"),
];

pub(crate) fn run() -> Exit {
    let lines = PLUGINS.map(|(name, meaning)| format!("{name:19}{meaning}\n"));
    printer::text(&lines.concat());
    printer::talk("any other name is a container of the image of that name");
    Exit::Green
}
