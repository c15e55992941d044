//! Hosts outside that a test allows: a container has no route to them, but its agent carries
//! connections to them over a unix socket.
//!
//! By `/etc/hosts` each has an address of the container's loopback, on which the agent listens. A
//! connection there comes here with the number of its host, and is carried on from here.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::open_to_all;
use crate::action::{Action, Host};
use crate::agent::OUTSIDE_SOCKET;
use crate::error::BackendError;
use crate::link::{Link, Lost};

const LOCALHOST: &str = "localhost";
/// How long a host may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// What carries connections outside; all of them end with it.
pub(super) struct Outside {
    hosts: Arc<[Host]>,
    over: CancellationToken,
    _end: DropGuard,
}

impl Outside {
    /// For what `action` allows.
    pub(super) fn of(action: &Action) -> Outside {
        let over = CancellationToken::new();
        Outside { hosts: action.allowed.clone().into(), _end: over.clone().drop_guard(), over }
    }

    /// Takes connections at the socket in a container's folder.
    pub(super) fn listen(&self, folder: &Path) -> io::Result<()> {
        if self.hosts.is_empty() {
            return Ok(());
        }
        let socket = folder.join(OUTSIDE_SOCKET);
        let listener = UnixListener::bind(&socket)?;
        open_to_all(&socket)?;
        let (hosts, over) = (self.hosts.clone(), self.over.clone());
        tokio::spawn(over.clone().run_until_cancelled_owned(async move {
            while let Ok((caller, _)) = listener.accept().await {
                tokio::spawn(over.clone().run_until_cancelled_owned(carry(caller, hosts.clone())));
            }
        }));
        Ok(())
    }

    /// Has an agent listen for all hosts, but not on ports on which something in the container is
    /// to listen.
    pub(super) async fn offer(&self, link: &Link, action: &Action) -> Result<(), Lost> {
        let taken: Vec<u16> = action.services.iter().flat_map(|it| it.ports.clone()).collect();
        for (number, host) in self.hosts.iter().enumerate() {
            if !taken.contains(&host.port) {
                let address = address(&self.hosts, &host.name);
                link.listen(address, host.port, number as u32).await?;
            }
        }
        Ok(())
    }
}

async fn carry(mut caller: UnixStream, hosts: Arc<[Host]>) {
    let Ok(Ok(number)) = timeout(PATIENCE, caller.read_u32_le()).await else { return };
    let Some(host) = hosts.get(number as usize) else { return };
    if let Ok(mut callee) = reach(host).await {
        let _ = copy_bidirectional(&mut caller, &mut callee).await;
    }
}

async fn reach(host: &Host) -> Result<TcpStream, String> {
    match timeout(PATIENCE, TcpStream::connect((host.outside.as_str(), host.port))).await {
        Ok(reached) => reached.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    }
}

/// Whether all services outside answer; each is asked once, whatever its names.
pub(super) async fn probe(action: &Action) -> Result<(), BackendError> {
    let mut asked = BTreeSet::new();
    for host in &action.allowed {
        let Some(service) = &host.service else { continue };
        if !asked.insert((&host.outside, host.port)) {
            continue;
        }
        reach(host).await.map_err(|reason| BackendError::Engine {
            engine: format!("the service `{service}`"),
            operation: format!("be reached at {}:{}", host.outside, host.port),
            reason,
        })?;
    }
    Ok(())
}

/// The lines of `/etc/hosts` for what `action` allows.
pub(super) fn names(action: &Action) -> String {
    let mut names: Vec<&str> = action.allowed.iter().map(|host| host.name.as_str()).collect();
    names.dedup();
    names.retain(|name| *name != LOCALHOST);
    names.iter().map(|name| format!("{} {name}\n", address(&action.allowed, name))).collect()
}

/// One of the loopback's addresses, 127.1.x.y, for each name but that of the loopback itself.
fn address(hosts: &[Host], name: &str) -> Ipv4Addr {
    if name == LOCALHOST {
        return Ipv4Addr::LOCALHOST;
    }
    let first = hosts.iter().position(|host| host.name == name).unwrap_or(0) + 1;
    Ipv4Addr::new(127, 1, (first >> 8) as u8, first as u8)
}
