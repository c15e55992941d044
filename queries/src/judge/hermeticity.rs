//! Judges `[expect.hermeticity]`: what a test touched.

use std::collections::BTreeMap;
use std::net::IpAddr;

use clnrm_backends::{Contact, Source, Span, Value};

use super::attribute::Attribute;
use super::names::{Pattern, listed, plural, tally};
use super::traces::Index;
use crate::expectation::{HermeticityExpectation, Verdict};

/// Attributes that name a peer, in the conventions of today and of the years before.
const PEERS: [&str; 13] = [
    "server.address",
    "network.peer.address",
    "net.peer.name",
    "net.peer.ip",
    "net.sock.peer.name",
    "net.sock.peer.addr",
    "peer.address",
    "peer.hostname",
    "http.host",
    "url.full",
    "http.url",
    "db.connection_string",
    "messaging.url",
];

pub(super) fn judge(index: &Index<'_>, expected: &HermeticityExpectation, verdict: &mut Verdict) {
    let spans: Vec<&Span> =
        index.spans.iter().copied().filter(|span| span.source == Source::Otlp).collect();
    if expected.no_external_services {
        peers(&spans, expected, verdict);
        contacts(index, expected, verdict);
        attempts(index, verdict);
    }
    resources(&spans, expected, verdict);
    keys(&spans, expected, verdict);
}

fn peers(spans: &[&Span], expected: &HermeticityExpectation, verdict: &mut Verdict) {
    let allowed: Vec<Pattern<'_>> =
        expected.allowed_hosts.iter().map(|host| Pattern::new(host)).collect();
    let mut outside: BTreeMap<String, (&str, u64)> = BTreeMap::new();
    for span in spans {
        for key in PEERS {
            let Some(Value::String(value)) = span.attributes.get(key) else { continue };
            let Some(host) = host(value) else { continue };
            let own = expected.services.contains(&host);
            if own || is_local(&host) || allowed.iter().any(|pattern| pattern.matches(&host)) {
                continue;
            }
            outside.entry(format!("`{host}` ({key})")).or_insert((&span.name, 0)).1 += 1;
        }
    }
    if outside.is_empty() {
        return;
    }
    let hosts = outside.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let (peer, (name, count)) = outside.iter().next().expect("it is not empty");
    let message = format!("spans name peers outside the test: {hosts}");
    let spans = plural(*count, "span");
    let nearest = Some(format!("`{name}` names {peer}, as {spans} do"));
    verdict.fail("no_external_services", message, nearest);
}

/// The host in an attribute: a name, an address, or a URL's.
fn host(value: &str) -> Option<String> {
    let rest = value.split_once("://").map_or(value, |(_, rest)| rest);
    let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = match rest.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        // An address of IPv6 has colons of its own.
        None if rest.parse::<IpAddr>().is_ok() => rest,
        None => rest.split(':').next().unwrap_or_default(),
    };
    // A path of a socket has no host.
    (!host.is_empty()).then(|| host.trim_end_matches('.').to_lowercase())
}

fn is_local(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host == "localhost"
        || host.ends_with(".localhost")
        || address.is_ok_and(|address| address.is_loopback() || address.is_unspecified())
}

/// Names that were looked up and addresses that were tried; this needs no spans.
fn contacts(index: &Index<'_>, expected: &HermeticityExpectation, verdict: &mut Verdict) {
    let allowed: Vec<Pattern<'_>> =
        expected.allowed_hosts.iter().map(|host| Pattern::new(host)).collect();
    let mut outside = BTreeMap::new();
    for contact in index.outside {
        if !allowed.iter().any(|pattern| pattern.matches(&contact.host)) {
            *outside.entry(told(contact)).or_insert(0) += contact.count;
        }
    }
    if outside.is_empty() {
        return;
    }
    let times = |(told, count): (&String, &u64)| match count {
        1 => told.clone(),
        count => format!("{told}, {count} times"),
    };
    let all: Vec<String> = outside.iter().map(times).collect();
    let message = format!("the test asked for hosts outside: {}", all.join("; "));
    let hint = "add a service of that name, or `policy.allowed_network_hosts`";
    verdict.fail("no_external_services", message, Some(hint.to_owned()));
}

/// A host, and who asked for it.
fn told(contact: &Contact) -> String {
    let host = match contact.port {
        Some(port) if contact.host.contains(':') => format!("`[{}]:{port}`", contact.host),
        Some(port) => format!("`{}:{port}`", contact.host),
        None => format!("`{}`", contact.host),
    };
    match (&contact.service, &contact.step) {
        (Some(service), Some(step)) => format!("{host} by step `{step}` in `{service}`"),
        (Some(service), None) => format!("{host} by service `{service}`"),
        _ => host,
    }
}

/// What the kernel saw; this needs no spans.
fn attempts(index: &Index<'_>, verdict: &mut Verdict) {
    match index.attempts {
        Some(0) => {}
        Some(count) => {
            let count = plural(count, "attempt");
            let message = format!("{count} to reach an address outside the test, none got out");
            verdict.fail("no_external_services", message, None);
        }
        None => {
            let message =
                "nobody counts what gets outside: the network is open, or the kernel does not say";
            verdict.fail("no_external_services", message, None);
        }
    }
}

fn resources(spans: &[&Span], expected: &HermeticityExpectation, verdict: &mut Verdict) {
    for attribute in expected.resource_must_match.iter().map(Attribute::new) {
        let misses: Vec<(&str, String)> = spans
            .iter()
            .filter_map(|span| Some((span.name.as_str(), attribute.miss_of(&span.resource)?)))
            .collect();
        let Some((name, miss)) = misses.iter().min_by_key(|(name, miss)| (miss, *name)) else {
            continue;
        };
        let (count, all) = (misses.len(), plural(spans.len() as u64, "span"));
        let message = format!("the resource of {count} of {all} does not match");
        let rule = format!("resource_attrs.must_match.{}", attribute.key);
        verdict.fail(rule, message, Some(format!("`{name}`: {miss}")));
    }
}

fn keys(spans: &[&Span], expected: &HermeticityExpectation, verdict: &mut Verdict) {
    for forbidden in &expected.forbid_keys {
        let pattern = Pattern::new(forbidden);
        let has = |span: &&&Span| {
            let events = span.events.iter().map(|event| &event.attributes);
            let mut all = [&span.attributes, &*span.resource].into_iter().chain(events);
            all.any(|attributes| attributes.keys().any(|key| pattern.matches(key)))
        };
        let found: Vec<&str> = spans.iter().filter(has).map(|span| span.name.as_str()).collect();
        if found.is_empty() {
            continue;
        }
        let count = plural(found.len() as u64, "span");
        let message = format!("{count} have the attribute `{forbidden}`, expected none");
        let nearest = Some(listed(&tally(found)));
        verdict.fail(format!("span_attrs.forbid_keys.{forbidden}"), message, nearest);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::traces::table::{check, check_set, traces};
    use super::*;
    use crate::expectation::{Expectation, Literal, Predicate};

    fn closed() -> HermeticityExpectation {
        HermeticityExpectation {
            no_external_services: true,
            services: vec!["db".to_owned()],
            allowed_hosts: vec!["*.internal".to_owned()],
            ..HermeticityExpectation::default()
        }
    }

    fn expected() -> Expectation {
        Expectation::Hermeticity(closed())
    }

    #[test]
    fn peers_inside_are_fine() {
        let set = "a 0..1 server.address=db net.peer.ip=127.0.0.1 url.full=http://localhost:8080/x\n\
                   b 0..1 http.url=http://user@db:80/ network.peer.address=::1 server.address=/run/x\n\
                   c 0..1 server.address=x.internal server.port=80";
        check(set, expected(), expect!["holds, 3 looked at"]);
    }

    #[test]
    fn peers_outside_are_told() {
        let set = "a 0..1 server.address=example.com\nb 0..1 url.full=https://Example.com:443/x?y\n\
                   c 0..1 net.peer.ip=10.0.0.1 http.host=db.other";
        check(
            set,
            expected(),
            expect![[r#"
            fails, 3 looked at
            no_external_services: spans name peers outside the test: `10.0.0.1` (net.peer.ip), `db.other` (http.host), `example.com` (server.address), `example.com` (url.full)
              nearest: `c` names `10.0.0.1` (net.peer.ip), as 1 span do
        "#]],
        );
    }

    #[test]
    fn attempts_need_no_spans() {
        let set = |attempts| crate::judge::TraceSet { attempts, ..traces("") };
        check_set(&set(Some(0)), expected(), expect!["holds, 0 looked at"]);
        check_set(
            &set(Some(2)),
            expected(),
            expect![[r#"
            fails, 0 looked at
            no_external_services: 2 attempts to reach an address outside the test, none got out
        "#]],
        );
        check_set(
            &set(None),
            expected(),
            expect![[r#"
                fails, 0 looked at
                no_external_services: nobody counts what gets outside: the network is open, or the kernel does not say
            "#]],
        );
    }

    #[test]
    fn resources_and_keys() {
        let eq = Some(Literal::String("ci".to_owned()));
        let expected = || {
            Expectation::Hermeticity(HermeticityExpectation {
                resource_must_match: [(
                    "env".to_owned(),
                    Predicate { eq: eq.clone(), ..Predicate::default() },
                )]
                .into(),
                forbid_keys: vec!["secret".to_owned(), "user.*".to_owned()],
                ..HermeticityExpectation::default()
            })
        };
        check("a 0..1 resource.env=ci b=1", expected(), expect!["holds, 1 looked at"]);
        check(
            "a 0..1 env=ci\nb 0..1 resource.env=dev secret=1 user.name=x",
            expected(),
            expect![[r#"
                fails, 2 looked at
                resource_attrs.must_match.env: the resource of 2 of 2 spans does not match
                  nearest: `b`: attribute `env` is "dev", expected "ci"
                span_attrs.forbid_keys.secret: 1 span have the attribute `secret`, expected none
                  nearest: `b` (1)
                span_attrs.forbid_keys.user.*: 1 span have the attribute `user.*`, expected none
                  nearest: `b` (1)
            "#]],
        );
        check("", expected(), expect!["fails, 0 looked at, no spans"]);
        check("x.start 0..1 lifecycle", expected(), expect!["fails, 0 looked at, no spans"]);
    }

    #[test]
    fn hosts() {
        for (value, expected) in [
            ("http://a.b:80/c", Some("a.b")),
            ("postgres://user:pw@db:5432/x", Some("db")),
            ("[::1]:80", Some("::1")),
            ("::1", Some("::1")),
            ("Example.COM.", Some("example.com")),
            ("/var/run/x.sock", None),
            ("", None),
        ] {
            assert_eq!(host(value).as_deref(), expected, "{value}");
        }
    }
}
