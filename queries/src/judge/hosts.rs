//! The hosts that an attribute names: in a host, an address, a URL, or a connection string.

use std::net::{IpAddr, Ipv4Addr};

/// Schemes of what has no host.
const WITHOUT_HOST: [&str; 12] = [
    "about",
    "blob",
    "cid",
    "data",
    "file",
    "javascript",
    "mailto",
    "sqlite",
    "tel",
    "unix",
    "urn",
    "vscode",
];

/// Keys of a connection string whose value is a host.
const KEYS: [&str; 12] = [
    "addr",
    "address",
    "data source",
    "datasource",
    "host",
    "host name",
    "hostname",
    "hostaddr",
    "network address",
    "networkaddress",
    "server",
    "servers",
];

/// Every host that `value` names, in lower case.
pub(super) fn hosts(value: &str) -> Vec<String> {
    let value = value.trim();
    // `//host/path` is a URL without its scheme.
    if let Some(rest) = value.strip_prefix("//") {
        return of_url("", rest);
    }
    // `user:word@tcp(host:port)/name`
    if let Some((_, rest)) = value.split_once("@tcp(") {
        return list(rest.split(')').next().unwrap_or_default());
    }
    // A path of a socket has no host.
    if value.is_empty() || value.starts_with(['/', '@', '\0']) {
        return Vec::new();
    }
    if let Some((scheme, rest)) = value.split_once("://") {
        return of_url(scheme, rest);
    }
    if let Some((_, rest)) = value.split_once(":@") {
        // `jdbc:oracle:thin:@host:1521:name`
        return list(rest.trim_start_matches("//"));
    }
    // `host:port,password=…`: hosts, with options behind them.
    let items: Vec<&str> = value.split(',').collect();
    let has_options = items[1..].iter().any(|item| item.contains('='));
    if has_options && !items[0].contains(['=', ';', ' ']) {
        let named: Vec<&str> = items.into_iter().filter(|item| !item.contains('=')).collect();
        return list(&named.join(","));
    }
    if value.split('/').next().is_some_and(|first| first.contains('=')) {
        return of_pairs(value);
    }
    let value = ["ipv4:", "ipv6:"].iter().find_map(|it| value.strip_prefix(it)).unwrap_or(value);
    let scheme = value.split(':').next().unwrap_or_default().to_lowercase();
    let is_scheme =
        value.contains(':') && (WITHOUT_HOST.contains(&scheme.as_str()) || scheme == "jdbc");
    if is_scheme { Vec::new() } else { list(value) }
}

/// The hosts of a URL's authority, and those its query gives instead.
fn of_url(scheme: &str, rest: &str) -> Vec<String> {
    let scheme = scheme.rsplit(':').next().unwrap_or_default().to_lowercase();
    if WITHOUT_HOST.contains(&scheme.as_str()) {
        return Vec::new();
    }
    // `dns:///host:port` names the host behind an empty authority.
    let rest = if scheme == "dns" { rest.trim_start_matches('/') } else { rest };
    let end = rest.find(['/', '?', '#', ';']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let mut hosts = list(authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts));
    if let Some((_, query)) = path.split_once(['?', ';']) {
        for pair in query.split(['&', ';']) {
            hosts.extend(of_pair(pair));
        }
    }
    hosts
}

/// The hosts of `Server=db;Port=5432` or `host=db port=5432`.
fn of_pairs(value: &str) -> Vec<String> {
    if value.contains(';') {
        return value.split(';').flat_map(of_pair).collect();
    }
    value.split_whitespace().flat_map(of_pair).collect()
}

fn of_pair(pair: &str) -> Vec<String> {
    let Some((key, value)) = pair.split_once('=') else { return Vec::new() };
    let key = key.trim().to_lowercase();
    if !KEYS.contains(&key.as_str()) {
        return Vec::new();
    }
    let value = value.trim().trim_matches(['\'', '"']);
    let value =
        ["tcp:", "np:", "lpc:"].iter().find_map(|it| value.strip_prefix(it)).unwrap_or(value);
    // A host, with the port or the name of an instance behind it.
    hosts(value.split('\\').next().unwrap_or_default())
}

/// Hosts with commas between them; a number among them is a port.
fn list(hosts: &str) -> Vec<String> {
    let named = hosts.split(',').map(str::trim).enumerate();
    let named = named.filter(|(at, host)| *at == 0 || host.parse::<u16>().is_err());
    named.filter_map(|(_, host)| of_host(host)).collect()
}

/// A host, without its port.
fn of_host(host: &str) -> Option<String> {
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        // An address of IPv6 has colons of its own.
        None if host.split('%').next().unwrap_or_default().parse::<IpAddr>().is_ok() => host,
        None => host.split(':').next().unwrap_or_default(),
    };
    let host = host.split('%').next().unwrap_or_default().trim_end_matches('.');
    (!host.is_empty()).then(|| host.to_lowercase())
}

/// An address in any form in which a program may write one: `127.1` and `2130706433` are 127.0.0.1, as
/// for `inet_aton`, and `::ffff:127.0.0.1` is too.
pub(super) fn address(host: &str) -> Option<IpAddr> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let parts: Vec<u32> = host.split('.').map(part).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    if first.len() > 3 || first.iter().any(|part| *part > 255) {
        return None;
    }
    let room = 32 - 8 * first.len() as u32;
    if u64::from(*last) >= 1_u64 << room {
        return None;
    }
    let high = first.iter().enumerate().map(|(at, part)| part << (24 - 8 * at as u32));
    Some(IpAddr::V4(Ipv4Addr::from(high.sum::<u32>() | last)))
}

/// A number in decimal, octal or hexadecimal digits.
fn part(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u32::from_str_radix(text, 8).ok(),
        None => text.parse().ok(),
    }
}

/// Whether a host is the container itself.
pub(super) fn is_local(host: &str) -> bool {
    let address = address(host);
    host == "localhost"
        || host.ends_with(".localhost")
        || address.is_some_and(|address| address.is_loopback() || address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_is_read() {
        for (value, expected) in [
            ("http://a.b:80/c", &["a.b"][..]),
            ("postgres://user:p@w@db:5432/x", &["db"]),
            ("[::1]:80", &["::1"]),
            ("::1", &["::1"]),
            ("fe80::1%lo", &["fe80::1"]),
            ("Example.COM.", &["example.com"]),
            ("db:5432", &["db"]),
            ("/var/run/x.sock", &[]),
            ("unix:/var/run/x.sock", &[]),
            ("", &[]),
            ("Server=db;Port=5432;Database=x", &["db"]),
            ("Server=tcp:evil.example.com,1433;Database=x", &["evil.example.com"]),
            ("Data Source=evil\\instance;Initial Catalog=x", &["evil"]),
            ("host=db port=5432 dbname=x", &["db"]),
            ("host=/var/run/postgresql dbname=x", &[]),
            ("host='evil' hostaddr=10.0.0.1", &["evil", "10.0.0.1"]),
            ("mongodb://db:27017,evil.example.com:27017/x", &["db", "evil.example.com"]),
            ("mongodb+srv://u:p@evil.example.com/x", &["evil.example.com"]),
            ("kafka-1:9092,kafka-2:9092", &["kafka-1", "kafka-2"]),
            ("jdbc:postgresql://db:5432/x", &["db"]),
            ("jdbc:sqlserver://evil;databaseName=x", &["evil"]),
            ("jdbc:oracle:thin:@evil:1521:x", &["evil"]),
            ("jdbc:sqlite:x.db", &[]),
            ("postgresql:///x?host=evil", &["evil"]),
            ("data:text/plain,hello", &[]),
            ("file:///etc/passwd", &[]),
            ("urn:isbn:1", &[]),
            ("about:blank", &[]),
            ("root:pw@tcp(evil.example.com:3306)/x?parseTime=true", &["evil.example.com"]),
            ("root:pw@tcp(localhost:3306)/x", &["localhost"]),
            ("evil.example.com:6379,password=x,ssl=True", &["evil.example.com"]),
            ("Host Name=evil.example.com;Port=1", &["evil.example.com"]),
            ("dns:///evil.example.com:443", &["evil.example.com"]),
            ("ipv4:127.0.0.1:443", &["127.0.0.1"]),
            ("evil.example.com/a?b=c", &["evil.example.com"]),
            ("//evil.example.com/x", &["evil.example.com"]),
        ] {
            assert_eq!(hosts(value), expected, "{value}");
        }
    }

    #[test]
    fn loopback_has_many_forms() {
        for host in [
            "localhost",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in ["localhost.com", "128.0.0.1", "1.127", "::ffff:8.8.8.8", "127.0.0.256", "db"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
