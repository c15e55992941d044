//! Answers look-ups of names in the container: those of `/etc/hosts`, and no others, which it tells.
//!
//! The format is that of RFC 1035, section 4. Names and types that are asked for are read, and nothing
//! else of a question.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;

/// The first three parts of the addresses on which agents listen; the last one is the container's.
pub(crate) const NETWORK: [u8; 3] = [127, 0, 53];
const PORT: u16 = 53;
/// The most names that one container reports, and what it reports in place of further ones.
const MOST: usize = 256;
const MORE: &str = "more than 256 names";
/// Reported when the resolver cannot listen, because an empty list would look like a proof.
const DEAF: &str = "unknown names: port 53 of the container was taken";
/// The loopback's address, backwards, as its name is asked for.
const LOOPBACK: &str = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa";

const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const INTERNET: [u8; 2] = [0, 1];
/// The question's own name, where it stands in the message.
const SAME_NAME: [u8; 2] = [0xc0, HEADER as u8];
const SECONDS_TO_LIVE: [u8; 4] = [0, 0, 0, 1];
/// An answer; recursion was desired and is available.
const ANSWER: [u8; 2] = [0x81, 0x80];
const NO_SUCH_NAME: u8 = 3;

/// Answers on a thread of its own, if `/etc/resolv.conf` names an address of [`NETWORK`]; `unknown` is
/// told each name that is not there, once, with the socket that asked.
pub(super) fn start(unknown: impl Fn(SocketAddr, String) + Send + 'static) {
    let Some(address) = own_address() else { return };
    let Ok(socket) = UdpSocket::bind((address, PORT)) else {
        return unknown((address, PORT).into(), DEAF.to_owned());
    };
    thread::spawn(move || {
        let mut told = HashSet::new();
        let mut message = [0; 1500];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut message) else { continue };
            let Some(question) = Question::read(&message[..length]) else { continue };
            let addresses = addresses(&question.name);
            let is_new = told.len() <= MOST && !told.contains(&question.name);
            if addresses.is_none() && is_new && !is_reverse_of_own(&question.name) {
                let is_one_more = told.len() == MOST;
                told.insert(question.name.clone());
                let name = if is_one_more { MORE.to_owned() } else { question.name.clone() };
                unknown(from, name);
            }
            let _ = socket.send_to(&question.answer(addresses.as_deref()), from);
        }
    });
}

fn own_address() -> Option<Ipv4Addr> {
    let settings = std::fs::read_to_string("/etc/resolv.conf").ok()?;
    let mut servers = settings.lines().filter_map(|line| line.strip_prefix("nameserver "));
    let address: Ipv4Addr = servers.next()?.trim().parse().ok()?;
    address.octets().starts_with(&NETWORK).then_some(address)
}

/// The addresses of a name, as `/etc/hosts` has them now; `None` when it is not there.
fn addresses(name: &str) -> Option<Vec<IpAddr>> {
    if name == "localhost" || name.ends_with(".localhost") {
        return Some(vec![Ipv4Addr::LOCALHOST.into()]);
    }
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let found: Vec<IpAddr> = hosts
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        })
        .collect();
    (!found.is_empty()).then_some(found)
}

/// Returns true for a reverse look-up of a loopback address or of an address in `/etc/hosts`.
fn is_reverse_of_own(name: &str) -> bool {
    let Some(parts) = name.strip_suffix(".in-addr.arpa") else {
        return name == LOOPBACK;
    };
    let address: Vec<&str> = parts.rsplit('.').collect();
    let address = address.join(".");
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    address.starts_with("127.")
        || hosts.lines().any(|line| line.split_whitespace().next() == Some(address.as_str()))
}

/// The first question of a message.
struct Question<'a> {
    message: &'a [u8],
    /// Where it ends.
    end: usize,
    /// In lower case, without a dot at its end.
    name: String,
    kind: u16,
}

impl Question<'_> {
    fn read(message: &[u8]) -> Option<Question<'_>> {
        let mut at = HEADER;
        let mut labels: Vec<String> = Vec::new();
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            // A label has 63 bytes at most; more are signs of a pointer, which no question has.
            let label = message.get(at..at + length).filter(|_| length < 64)?;
            labels.push(label.iter().map(|byte| printable(*byte)).collect());
            at += length;
        }
        let kind = message.get(at..at + 2)?;
        let kind = u16::from_be_bytes([kind[0], kind[1]]);
        let end = at + 4;
        (message.len() >= end).then(|| Question { message, end, name: labels.join("."), kind })
    }

    fn answer(&self, addresses: Option<&[IpAddr]>) -> Vec<u8> {
        let mut records = Vec::new();
        let mut count: u16 = 0;
        for address in addresses.unwrap_or_default() {
            let data = match (self.kind, address) {
                (TYPE_A, IpAddr::V4(address)) => address.octets().to_vec(),
                (TYPE_AAAA, IpAddr::V6(address)) => address.octets().to_vec(),
                _ => continue,
            };
            records.extend(SAME_NAME);
            records.extend(self.kind.to_be_bytes());
            records.extend(INTERNET);
            records.extend(SECONDS_TO_LIVE);
            records.extend((data.len() as u16).to_be_bytes());
            records.extend(data);
            count += 1;
        }
        let [high, low] = ANSWER;
        let code = if addresses.is_none() { NO_SUCH_NAME } else { 0 };
        let mut answer = self.message[..2].to_vec();
        answer.extend([high, low | code, 0, 1]);
        answer.extend(count.to_be_bytes());
        answer.extend([0; 4]);
        answer.extend(&self.message[HEADER..self.end]);
        answer.extend(records);
        answer
    }
}

/// Converts a byte of a name to a lower-case letter; unprintable bytes and dots become `?`.
fn printable(byte: u8) -> char {
    let letter = char::from(byte.to_ascii_lowercase());
    if letter.is_ascii_graphic() && letter != '.' { letter } else { '?' }
}

/// The process in this container that holds the socket bound to a port, with those it descends from,
/// nearest first.
pub(super) fn askers(from: SocketAddr) -> Vec<i32> {
    let Some(inode) = inode_of(from.port()) else { return Vec::new() };
    let link = format!("socket:[{inode}]");
    let holds = |pid: i32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.into_iter().any(|file| {
            std::fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == link.as_str())
        })
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let Some(mut pid) = pids.find(|pid| *pid != 1 && holds(*pid)) else { return Vec::new() };
    let mut line = Vec::new();
    while pid > 1 && !line.contains(&pid) {
        line.push(pid);
        pid = parent_of(pid).unwrap_or(1);
    }
    line
}

fn inode_of(port: u16) -> Option<String> {
    let port = format!(":{port:04X}");
    ["/proc/self/net/udp", "/proc/self/net/udp6"].iter().find_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        text.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words.get(1)?.ends_with(&port)).then(|| words.get(9).map(ToString::to_string))?
        })
    })
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program comes before, in brackets, and may hold any sign.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}
