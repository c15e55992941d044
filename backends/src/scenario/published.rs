//! Ports of services that are reached from this machine: a container has no address here, but its
//! agent carries connections from a unix socket to its loopback.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::open_to_all;
use crate::action::ServicePlan;
use crate::agent::INSIDE_SOCKET;
use crate::kept::Published;
use crate::link::Link;

/// How long an agent may take to call back.
const PATIENCE: Duration = Duration::from_secs(10);

/// What carries connections inside; all of them end with it.
pub(super) struct Inside {
    over: CancellationToken,
    ports: Vec<Published>,
    _end: DropGuard,
}

/// Connections for which an agent has not called back yet, by their number.
type Waiting = Arc<Mutex<HashMap<u32, TcpStream>>>;

impl Inside {
    /// Nothing is open yet.
    pub(super) fn new() -> Inside {
        let over = CancellationToken::new();
        Inside { ports: Vec::new(), _end: over.clone().drop_guard(), over }
    }

    /// Opens the ports of a service that says so, at free ports of this machine's loopback.
    pub(super) async fn publish(
        &mut self,
        service: &ServicePlan,
        folder: &Path,
        link: &Arc<Link>,
    ) -> io::Result<()> {
        if !service.publish || service.ports.is_empty() {
            return Ok(());
        }
        let socket = folder.join(INSIDE_SOCKET);
        let agent = UnixListener::bind(&socket)?;
        open_to_all(&socket)?;
        let waiting = Waiting::default();
        tokio::spawn(self.over.clone().run_until_cancelled_owned({
            let (waiting, over) = (waiting.clone(), self.over.clone());
            async move {
                while let Ok((callee, _)) = agent.accept().await {
                    let carried = carry(callee, waiting.clone());
                    tokio::spawn(over.clone().run_until_cancelled_owned(carried));
                }
            }
        }));
        for port in &service.ports {
            let listener = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).await?;
            let at = listener.local_addr()?.port();
            self.ports.push(Published { service: service.name.clone(), port: *port, at });
            let (port, link, waiting) = (*port, link.clone(), waiting.clone());
            tokio::spawn(self.over.clone().run_until_cancelled_owned(async move {
                // Numbers of one port's connections are apart from those of another's.
                for number in (u32::from(at) << 16).. {
                    let Ok((caller, _)) = listener.accept().await else { return };
                    waiting.lock().expect("no holder panics").insert(number, caller);
                    if link.dial(port, number).await.is_err() {
                        return;
                    }
                }
            }));
        }
        Ok(())
    }

    /// What is open.
    pub(super) fn ports(&self) -> Vec<Published> {
        self.ports.clone()
    }
}

async fn carry(mut callee: UnixStream, waiting: Waiting) {
    let Ok(Ok(number)) = timeout(PATIENCE, callee.read_u32_le()).await else { return };
    let caller = waiting.lock().expect("no holder panics").remove(&number);
    if let Some(mut caller) = caller {
        let _ = copy_bidirectional(&mut caller, &mut callee).await;
    }
}
