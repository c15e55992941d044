//! Where Docker's service may listen: what the user said, the context in use, the usual places.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Sockets to try, in this order.
///
/// # Errors
/// When the user's own word is a place on another machine: what a run mounts is on this one.
pub(crate) fn sockets() -> Result<Vec<PathBuf>, String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(host) = variable("DOCKER_HOST") {
        return local(&host, "$DOCKER_HOST").map(|socket| vec![socket]);
    }
    let config = variable("DOCKER_CONFIG").map(PathBuf::from);
    let config = config.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".docker")));
    if let Some(config) = config {
        let context = variable("DOCKER_CONTEXT").or_else(|| current_context(&config));
        if let Some(context) = context.filter(|context| context != "default") {
            let host = host_of(&config, &context)
                .ok_or_else(|| format!("there is no Docker context `{context}`"))?;
            return local(&host, &format!("the Docker context `{context}`"))
                .map(|socket| vec![socket]);
        }
    }
    let user = variable("XDG_RUNTIME_DIR").map(|folder| PathBuf::from(folder).join("docker.sock"));
    let usual = ["/var/run/docker.sock", "/run/docker.sock"].map(PathBuf::from);
    let mut found = Vec::new();
    for socket in user.into_iter().chain(usual).filter_map(|socket| socket.canonicalize().ok()) {
        if !found.contains(&socket) {
            found.push(socket);
        }
    }
    Ok(found)
}

fn local(host: &str, of: &str) -> Result<PathBuf, String> {
    match host.strip_prefix("unix://") {
        Some(path) => Ok(PathBuf::from(path)),
        None if host.starts_with('/') => Ok(PathBuf::from(host)),
        None => Err(format!("{of} is {host}; only sockets of this machine (unix://…) are used")),
    }
}

fn current_context(config: &Path) -> Option<String> {
    let text = fs::read_to_string(config.join("config.json")).ok()?;
    let config: Value = serde_json::from_str(&text).ok()?;
    Some(config["currentContext"].as_str()?.to_owned())
}

/// The folder of a context is named by a digest; the name itself is in the file.
fn host_of(config: &Path, context: &str) -> Option<String> {
    let folders = fs::read_dir(config.join("contexts/meta")).ok()?;
    let texts = folders.flatten().filter_map(|folder| {
        let text = fs::read_to_string(folder.path().join("meta.json")).ok()?;
        serde_json::from_str::<Value>(&text).ok()
    });
    let mut found = texts.filter(|meta| meta["Name"] == context);
    Some(found.next()?["Endpoints"]["docker"]["Host"].as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_found_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let meta = folder.path().join("contexts/meta/5f2d");
        fs::create_dir_all(&meta).unwrap();
        fs::write(folder.path().join("config.json"), r#"{"currentContext": "mine"}"#).unwrap();
        let host = r#"{"Name": "mine", "Endpoints": {"docker": {"Host": "unix:///a.sock"}}}"#;
        fs::write(meta.join("meta.json"), host).unwrap();
        let context = current_context(folder.path()).unwrap();
        assert_eq!(host_of(folder.path(), &context).as_deref(), Some("unix:///a.sock"));
        assert_eq!(host_of(folder.path(), "other"), None);
    }

    #[test]
    fn other_machines_are_refused() {
        assert_eq!(local("unix:///a.sock", "x"), Ok(PathBuf::from("/a.sock")));
        assert!(local("tcp://10.0.0.1:2375", "$DOCKER_HOST").unwrap_err().contains("10.0.0.1"));
    }
}
