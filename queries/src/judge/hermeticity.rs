//! Judges `[expect.hermeticity]`: what a test touched.

use std::collections::{BTreeMap, BTreeSet};

use clnrm_backends::{Attributes, Contact, Source, Span, SpanKind, Value};

use super::attribute::Attribute;
use super::hosts::{address, hosts, is_local};
use super::names::{Pattern, listed, plural, tally};
use super::traces::Index;
use crate::expectation::{HermeticityExpectation, Verdict};

/// Attributes that name a peer, in the conventions of today and of the years before.
const PEERS: [&str; 26] = [
    "bootstrap.servers",
    "db.connection_string",
    "destination.address",
    "destination.domain",
    "http.host",
    "http.url",
    "kafka.bootstrap.servers",
    "messaging.url",
    "net.peer.address",
    "net.peer.ip",
    "net.peer.name",
    "net.sock.peer.addr",
    "net.sock.peer.name",
    "network.peer.address",
    "out.host",
    "peer.address",
    "peer.hostname",
    "peer.ipv4",
    "peer.ipv6",
    "server.address",
    "server.socket.address",
    "server.socket.domain",
    "url.domain",
    "url.full",
    "url.original",
    "upstream_address",
];

/// Those that are no peer of a SERVER span: they name the server itself, by the host it was asked for,
/// or its client, which is inside the test.
fn is_own(span: &Span, key: &str) -> bool {
    const OF_CONNECTION: [&str; 6] = ["http.", "net.", "network.", "peer.", "server.", "url."];
    span.kind == SpanKind::Server && OF_CONNECTION.iter().any(|prefix| key.starts_with(prefix))
}

pub(super) fn judge(index: &Index<'_>, expected: &HermeticityExpectation, verdict: &mut Verdict) {
    let spans: Vec<&Span> =
        index.spans.iter().copied().filter(|span| span.source == Source::Otlp).collect();
    if expected.no_external_services {
        peers(index, &spans, expected, verdict);
        contacts(index, expected, verdict);
        attempts(index, verdict);
    }
    resources(&spans, expected, verdict);
    keys(&spans, expected, verdict);
}

fn peers(
    index: &Index<'_>,
    spans: &[&Span],
    expected: &HermeticityExpectation,
    verdict: &mut Verdict,
) {
    let allowed = allowed_hosts(expected);
    let is_inside = |host: &String| {
        let address = address(host);
        expected.services.contains(host)
            || is_local(host)
            || address.is_some_and(|address| index.own_addresses.contains(&address))
            || allowed.iter().any(|pattern| pattern.matches(host))
    };
    let mut outside: BTreeMap<String, (&str, u64)> = BTreeMap::new();
    for span in spans {
        for key in PEERS.into_iter().filter(|key| !is_own(span, key)) {
            let Some(value) = span.attributes.get(key) else { continue };
            for host in texts(value).into_iter().flat_map(hosts).filter(|host| !is_inside(host)) {
                outside.entry(format!("`{host}` ({key})")).or_insert((&span.name, 0)).1 += 1;
            }
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

/// The texts in a value: itself, or those of a list.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

fn allowed_hosts(expected: &HermeticityExpectation) -> Vec<Pattern<'_>> {
    expected.allowed_hosts.iter().map(|host| Pattern::new(host)).collect()
}

/// Names that were looked up and addresses that were tried; this needs no spans.
fn contacts(index: &Index<'_>, expected: &HermeticityExpectation, verdict: &mut Verdict) {
    let allowed = allowed_hosts(expected);
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
        let places: Vec<(&str, BTreeSet<&str>)> = spans
            .iter()
            .map(|span| (span.name.as_str(), places(span, &pattern)))
            .filter(|(_, places)| !places.is_empty())
            .collect();
        if places.is_empty() {
            continue;
        }
        let count = plural(places.len() as u64, "span");
        let message = format!("{count} have the attribute `{forbidden}`, expected none");
        let mut nearest = listed(&tally(places.iter().map(|(name, _)| *name)));
        let places: BTreeSet<&str> = places.into_iter().flat_map(|(_, places)| places).collect();
        if places != BTreeSet::from([OWN]) {
            let places: Vec<&str> = places.into_iter().collect();
            nearest += &format!(", in their {}", places.join(" and "));
        }
        verdict.fail(format!("span_attrs.forbid_keys.{forbidden}"), message, Some(nearest));
    }
}

/// A span's own attributes.
const OWN: &str = "attributes";

/// Where a span has a key that `pattern` matches.
fn places(span: &Span, pattern: &Pattern<'_>) -> BTreeSet<&'static str> {
    let in_events =
        span.events.iter().any(|event| has_key(&event.attributes, "", pattern)).then_some("events");
    let own = has_key(&span.attributes, "", pattern).then_some(OWN);
    let in_resource = has_key(&span.resource, "", pattern).then_some("resource");
    [own, in_events, in_resource].into_iter().flatten().collect()
}

/// Whether `pattern` matches a key of these, or of a map within, by itself or with what it lies under:
/// `user.email` is `email` in the map `user`.
fn has_key(attributes: &Attributes, above: &str, pattern: &Pattern<'_>) -> bool {
    attributes.iter().any(|(key, value)| {
        let path = format!("{above}{key}");
        pattern.matches(key) || pattern.matches(&path) || has_key_within(value, &path, pattern)
    })
}

fn has_key_within(value: &Value, path: &str, pattern: &Pattern<'_>) -> bool {
    match value {
        Value::Map(map) => has_key(map, &format!("{path}."), pattern),
        Value::Array(values) => values.iter().any(|value| has_key_within(value, path, pattern)),
        _ => false,
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

    fn peers_of(line: &str) -> bool {
        let verdict = super::super::judge(&traces(line), &expected());
        verdict.failures.iter().any(|failure| failure.message.starts_with("spans name peers"))
    }

    #[test]
    fn a_server_names_itself_and_its_client() {
        assert!(!peers_of(
            "a 0..1 server server.address=shop.example.com client.address=203.0.113.7"
        ));
        assert!(!peers_of(
            "a 0..1 server network.peer.address=::ffff:127.0.0.1 http.host=x.example"
        ));
        assert!(peers_of("a 0..1 client server.address=shop.example.com"));
        assert!(peers_of("a 0..1 server.address=shop.example.com"));
        assert!(peers_of("a 0..1 server db.connection_string=postgres://evil.example.com/x"));
        assert!(peers_of("a 0..1 server upstream_address=evil.example.com"));
    }

    #[test]
    fn addresses_of_the_test_are_inside() {
        let own_addresses = vec!["198.18.0.2".parse().unwrap()];
        let line = "a 0..1 client network.peer.address=::ffff:198.18.0.2";
        let set = crate::judge::TraceSet { own_addresses, ..traces(line) };
        check_set(&set, expected(), expect!["holds, 1 looked at"]);
        assert!(peers_of(line));
    }

    #[test]
    fn names_that_were_looked_up_are_told_with_who_asked() {
        let contact = |host: &str, port, step: Option<&str>| Contact {
            host: host.to_owned(),
            port,
            service: Some("api".to_owned()),
            step: step.map(str::to_owned),
            count: 2,
        };
        let outside = vec![
            contact("payments.example.com", None, Some("charge")),
            contact("8.8.8.8", Some(53), None),
            contact("x.internal", None, None),
        ];
        let set = crate::judge::TraceSet { outside, ..traces("") };
        check_set(
            &set,
            expected(),
            expect![[r#"
                fails, 0 looked at
                no_external_services: the test asked for hosts outside: `8.8.8.8:53` by service `api`, 2 times; `payments.example.com` by step `charge` in `api`, 2 times
                  nearest: add a service of that name, or `policy.allowed_network_hosts`
            "#]],
        );
    }

    #[test]
    fn keys_are_forbidden_wherever_they_are() {
        let forbidding = |key: &str| {
            Expectation::Hermeticity(HermeticityExpectation {
                forbid_keys: vec![key.to_owned()],
                ..HermeticityExpectation::default()
            })
        };
        let mut set = traces("a 0..1 resource.host.name=x !e\nb 0..1 k=v");
        let email = || (String::from("email"), Value::String("x".to_owned()));
        let user = Value::Map(Attributes::from([email()]));
        set.spans[0].events[0].attributes =
            Attributes::from([("user".to_owned(), Value::Array(vec![user]))]);
        check_set(
            &set,
            forbidding("user.email"),
            expect![[r#"
                fails, 2 looked at
                span_attrs.forbid_keys.user.email: 1 span have the attribute `user.email`, expected none
                  nearest: `a` (1), in their events
            "#]],
        );
        check_set(
            &set,
            forbidding("host.*"),
            expect![[r#"
                fails, 2 looked at
                span_attrs.forbid_keys.host.*: 1 span have the attribute `host.*`, expected none
                  nearest: `a` (1), in their resource
            "#]],
        );
        check_set(&set, forbidding("user.name"), expect!["holds, 2 looked at"]);
    }
}
