//! Makes a container's network over netlink: the loopback device, and links to other containers.
//!
//! Each two linked containers have a pair of devices (veth) of their own: no bridge, no router,
//! nothing that reaches the machine.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeader, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The loopback is always the first device of a namespace.
const LOOPBACK: u32 = 1;
/// Numbers of devices to other containers begin here, above those the kernel makes by itself.
const FIRST_LINK: u32 = 100;
/// Below it are the addresses of linked containers: 198.18.0.0/15 is for tests (RFC 2544).
const NETWORK: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// The address of a linked container by its place in the start order.
pub(super) fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(NETWORK.to_bits() + 1 + index as u32)
}

/// Sets the loopback device of this network up.
pub(super) fn up() -> io::Result<()> {
    Devices::of_this_network()?.up(LOOPBACK)
}

/// Links this network, whose loopback is up, to those of all containers that started before it, by
/// their processes in order.
pub(super) fn link(others: &[u32]) -> io::Result<()> {
    let index = others.len();
    let here = Devices::of_this_network()?;
    // By its own address it is reached even before there is another one.
    here.give(LOOPBACK, address(index), address(index))?;
    if others.is_empty() {
        return Ok(());
    }
    let home = File::open("/proc/thread-self/ns/net")?;
    let enter = |network: &File| {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
    };
    for (other, pid) in others.iter().enumerate() {
        let network = File::open(format!("/proc/{pid}/ns/net"))?;
        let [to_other, to_us] = [other, index].map(|end| FIRST_LINK + end as u32);
        here.pair(to_other, to_us, &network)?;
        enter(&network)?;
        let there = Devices::of_this_network();
        enter(&home)?;
        there?.connect(to_us, address(other), address(index))?;
        here.connect(to_other, address(index), address(other))?;
    }
    Ok(())
}

/// The devices of a network.
struct Devices(OwnedFd);

impl Devices {
    fn of_this_network() -> io::Result<Devices> {
        // Protocol 0 of this family is routing, which devices belong to.
        let family = rustix::net::AddressFamily::NETLINK;
        let socket = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Devices(socket))
    }

    /// Makes two devices that are one link, of which the second is in another network.
    fn pair(&self, device: u32, there: u32, network: &File) -> io::Result<()> {
        let mut peer = named(there);
        peer.attributes.push(LinkAttribute::NetNsFd(network.as_raw_fd()));
        let mut message = named(device);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.ask(NLM_F_CREATE | NLM_F_EXCL, RouteNetlinkMessage::NewLink(message))
    }

    /// Makes a device the way from `own` to `other`.
    fn connect(&self, device: u32, own: Ipv4Addr, other: Ipv4Addr) -> io::Result<()> {
        self.give(device, own, other)?;
        self.up(device)
    }

    fn give(&self, device: u32, own: Ipv4Addr, other: Ipv4Addr) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header = AddressHeader {
            family: AddressFamily::Inet,
            prefix_len: 32,
            scope: AddressScope::Universe,
            index: device,
            ..AddressHeader::default()
        };
        message.attributes = vec![
            AddressAttribute::Local(IpAddr::V4(own)),
            AddressAttribute::Address(IpAddr::V4(other)),
        ];
        self.ask(NLM_F_CREATE | NLM_F_EXCL, RouteNetlinkMessage::NewAddress(message))
    }

    fn up(&self, device: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = device;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.ask(0, RouteNetlinkMessage::NewLink(message))
    }

    /// Has the kernel do something, and waits until it is done.
    fn ask(&self, flags: u16, request: RouteNetlinkMessage) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.0, &bytes, SendFlags::empty(), &kernel)?;
        let mut answer = [0; 4096];
        let (length, _) = rustix::net::recv(&self.0, &mut answer[..], RecvFlags::empty())?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer[..length]);
        match answer.map(|answer| answer.payload) {
            Ok(NetlinkPayload::Error(refusal)) if refusal.code.is_none() => Ok(()),
            Ok(NetlinkPayload::Error(refusal)) => Err(refusal.to_io()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "no answer to a netlink request")),
        }
    }
}

/// A device by its number, which is also its name.
fn named(device: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = device;
    message.attributes = vec![LinkAttribute::IfName(format!("link{device}"))];
    message
}
