//! The way outside of an open network: `slirp4netns`, which carries a container's connections as
//! this user's own. It changes nothing of the machine's network and needs no privileges.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// The program that does it.
pub(crate) const PROGRAM: &str = "slirp4netns";
/// What a container asks for the addresses of names.
pub(super) const RESOLVER: &str = "nameserver 10.0.2.3\n";
/// How long it may take to be ready.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Gives the network of a process a way outside, for as long as the result's standard input is open.
///
/// # Errors
/// In words, when there is none then.
pub(super) async fn lead(pid: u32) -> Result<Child, String> {
    let mut words = tempfile::tempfile().map_err(|error| error.to_string())?;
    let mut child = start(pid, &words).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            format!(
                "it takes `{PROGRAM}`, which is not installed; `apt install {PROGRAM}` does that"
            )
        }
        _ => format!("{PROGRAM}: {error}"),
    })?;
    let mut ready = child.stdout.take().expect("it is piped");
    match tokio::time::timeout(START_LIMIT, ready.read_u8()).await {
        Ok(Ok(_)) => Ok(child),
        Ok(Err(_)) => {
            let mut text = String::new();
            let read = words.rewind().and_then(|()| words.read_to_string(&mut text));
            let told = read.ok().and_then(|_| text.lines().rfind(|line| line.contains(": ")));
            Err(format!("{PROGRAM}: {}", told.unwrap_or("it ended")))
        }
        Err(_) => Err(format!("{PROGRAM} was not ready within {START_LIMIT:?}")),
    }
}

/// Starts it: it tells on its standard output that it is ready, and ends with its standard input.
fn start(pid: u32, words: &File) -> io::Result<Child> {
    Command::new(PROGRAM)
        .args(["--configure", "--enable-ipv6", "--mtu=65520"])
        .args(["--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"])
        .args(["--exit-fd=0", "--ready-fd=1", &pid.to_string(), "eth0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(words.try_clone()?)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}
