//! The format of test files as types, for its JSON Schema alone: what reads files is
//! `clnrm_queries`, and a test holds the two together.

#![allow(dead_code, reason = "nothing reads these; their schema is all that is wanted")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// A clnrm test: services, scenarios, and what the OpenTelemetry spans of a run must look like.
#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestFile {
    /// What the test is called.
    meta: Option<Meta>,
    /// What the test is called, in older files.
    test: Option<OlderMeta>,
    /// The test's name, where there is no `[meta]`.
    name: Option<String>,
    description: Option<String>,
    version: Option<Value>,
    author: Option<Value>,
    tags: Option<Strings>,
    timeout: Option<Duration>,
    timeout_seconds: Option<f64>,
    /// How long services get, after the last step, to export their spans.
    settle: Option<Duration>,
    isolation: Option<Isolation>,
    /// Variables of the template.
    vars: Option<BTreeMap<String, Value>>,
    /// Axes: one test for each combination of those that the text reads as one value.
    matrix: Option<BTreeMap<String, Vec<Value>>>,
    template: Option<Template>,
    determinism: Option<Determinism>,
    limits: Option<Limits>,
    otel: Option<Otel>,
    otel_headers: Option<BTreeMap<String, Value>>,
    otel_propagators: Option<Propagators>,
    report: Option<ReportFiles>,
    policy: Option<Policy>,
    network: Option<Network>,
    /// Containers beside the steps, or in which these run.
    services: Option<BTreeMap<String, Service>>,
    service: Option<BTreeMap<String, Service>>,
    /// Each gets a fresh environment.
    scenario: Option<Vec<Scenario>>,
    scenarios: Option<Vec<Scenario>>,
    /// The steps of one scenario, which is named after the test.
    steps: Option<Vec<Step>>,
    step: Option<Vec<Step>>,
    /// What the spans of all scenarios must look like.
    expect: Option<Expect>,
    /// What is asserted of the run itself.
    assertions: Option<Value>,
    otel_validation: Option<BTreeMap<String, Value>>,
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Meta {
    /// Required.
    name: String,
    version: Option<Value>,
    description: Option<String>,
    author: Option<Value>,
    authors: Option<Value>,
    license: Option<String>,
    created: Option<Value>,
    updated: Option<Value>,
    tags: Option<Strings>,
    /// Limit of the whole test.
    timeout: Option<Duration>,
    timeout_seconds: Option<f64>,
    /// How long services get, after the last step, to export their spans.
    settle: Option<Duration>,
    isolation: Option<Isolation>,
}

#[derive(Serialize, JsonSchema)]
struct OlderMeta {
    name: Option<String>,
    metadata: Option<Meta>,
}

/// Which scenarios share an environment: none, or all.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Isolation {
    Scenario,
    Test,
}

/// What can be reached: the test's own services, nothing at all, or everything.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Network {
    Isolated,
    None,
    Open,
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Template {
    vars: Option<BTreeMap<String, Value>>,
    matrix: Option<BTreeMap<String, Vec<Value>>>,
    otel: Option<BTreeMap<String, Value>>,
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Determinism {
    /// Of every generator, and `CLNRM_SEED` in the containers.
    seed: Option<i64>,
    /// An RFC 3339 time; `false` is the real clock.
    freeze_clock: Option<Value>,
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Limits {
    max_duration_seconds: Option<f64>,
    memory_mb: Option<u64>,
    cpu_millicores: Option<u64>,
    pids: Option<u64>,
    group: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Otel {
    exporter: Option<Exporter>,
    /// Where spans are sent besides.
    endpoint: Option<String>,
    protocol: Option<String>,
    headers: Option<BTreeMap<String, Value>>,
    /// From 0 to 1.
    sample_ratio: Option<f64>,
    resources: Option<Environment>,
    resource_attributes: Option<Environment>,
    propagators: Option<Propagators>,
    service_name: Option<String>,
    enabled: Option<bool>,
    description: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Exporter {
    Stdout,
    Otlp,
    OtlpHttp,
    OtlpGrpc,
    Jaeger,
    Zipkin,
    None,
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Propagators {
    r#use: Option<Strings>,
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReportFiles {
    json: Option<String>,
    junit: Option<String>,
    digest: Option<String>,
    html: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Policy {
    max_execution_time: Option<Duration>,
    security_level: Option<String>,
    allowed_network_hosts: Option<Strings>,
}

/// A container.
#[derive(Serialize, JsonSchema)]
struct Service {
    /// A reference, a digest, or `host`: the machine's own programs.
    image: Option<String>,
    plugin: Option<String>,
    r#type: Option<String>,
    service_type: Option<String>,
    name: Option<String>,
    description: Option<String>,
    /// What it runs; the image's own command when left out.
    args: Option<Strings>,
    command: Option<Strings>,
    env: Option<Environment>,
    environment: Option<Environment>,
    /// Inside the test's network: `8080`, or `"8080:80"`.
    ports: Option<Vec<NumberOrText>>,
    publish: Option<bool>,
    /// `"./here:/there:ro"`, relative to the workspace.
    volumes: Option<Vec<Volume>>,
    working_dir: Option<String>,
    workdir: Option<String>,
    /// Services that must be ready before it starts.
    depends_on: Option<Strings>,
    health_check: Option<HealthCheck>,
    healthcheck: Option<HealthCheck>,
    /// When it is ready; several must all hold.
    wait_for: Option<OneOrMany<WaitFor>>,
    wait_for_span: Option<String>,
    wait_for_span_timeout_secs: Option<u64>,
    network: Option<Network>,
    username: Option<String>,
    password: Option<String>,
    strict: Option<bool>,
    endpoint: Option<String>,
    cache: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Volume {
    Short(String),
    Long(LongVolume),
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongVolume {
    host_path: Option<String>,
    source: Option<String>,
    container_path: Option<String>,
    target: Option<String>,
    read_only: Option<bool>,
    readonly: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum HealthCheck {
    Command(String),
    Table(HealthCheckTable),
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HealthCheckTable {
    cmd: Option<Strings>,
    command: Option<Strings>,
    test: Option<Strings>,
    interval: Option<Duration>,
    timeout: Option<Duration>,
    retries: Option<u64>,
    start_period: Option<Duration>,
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WaitFor {
    /// A regular expression that its output matches.
    log: Option<String>,
    port: Option<u16>,
    /// A path of which a GET answers with `status`.
    http: Option<String>,
    status: Option<u16>,
    exec: Option<Strings>,
    cmd: Option<Strings>,
    span: Option<String>,
    seconds: Option<f64>,
    timeout: Option<Duration>,
    timeout_ms: Option<u64>,
}

/// Steps in a fresh environment.
#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Scenario {
    name: String,
    description: Option<String>,
    tags: Option<Strings>,
    /// In whose container steps run that name none.
    service: Option<String>,
    /// Shell text, or a list of commands.
    run: Option<OneOrMany<TextOr<Step>>>,
    steps: Option<Vec<Step>>,
    step: Option<Vec<Step>>,
    /// With `run`, as for a step.
    expected_exit_code: Option<u8>,
    should_fail: Option<bool>,
    expected_output_regex: Option<String>,
    expected_output_regex_not: Option<String>,
    expected_output_contains: Option<String>,
    expected_output: Option<String>,
    workdir: Option<String>,
    working_dir: Option<String>,
    retry: Option<Retry>,
    retry_on_failure: Option<bool>,
    max_retries: Option<u64>,
    /// Spans to wait for, after the steps.
    wait_for: Option<OneOrMany<AwaitedSpan>>,
    timeout: Option<Duration>,
    timeout_ms: Option<u64>,
    /// How long services get, after the last step, to export their spans.
    settle: Option<Duration>,
    concurrent: Option<bool>,
    env: Option<Environment>,
    environment: Option<Environment>,
    retries: Option<u64>,
    policy: Option<Policy>,
    artifacts: Option<Artifacts>,
    /// Whether it is expected that a step fails.
    expect_failure: Option<bool>,
    network: Option<Network>,
    /// What the spans of this scenario must look like.
    expect: Option<Expect>,
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Artifacts {
    collect: Option<Strings>,
}

/// A command in a service's container.
#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Step {
    name: Option<String>,
    description: Option<String>,
    /// An argument vector, or shell text.
    command: Option<Strings>,
    cmd: Option<Strings>,
    run: Option<Strings>,
    service: Option<String>,
    workdir: Option<String>,
    working_dir: Option<String>,
    env: Option<Environment>,
    environment: Option<Environment>,
    timeout: Option<Duration>,
    timeout_ms: Option<u64>,
    expected_exit_code: Option<u8>,
    /// Matches standard output; unanchored unless it says so, the dot matches newlines.
    expected_output_regex: Option<String>,
    expected_output_regex_not: Option<String>,
    expected_output_contains: Option<String>,
    expected_output: Option<String>,
    should_fail: Option<bool>,
    continue_on_failure: Option<bool>,
    retry_on_failure: Option<bool>,
    max_retries: Option<u64>,
    retry: Option<Retry>,
    depends_on: Option<Strings>,
    /// Spans to wait for, instead of a command.
    wait_for: Option<AwaitedSpan>,
}

/// Spans of the code under test.
#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AwaitedSpan {
    span: String,
    count: Option<u64>,
    timeout: Option<Duration>,
    timeout_ms: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Retry {
    max_attempts: Option<u64>,
    attempts: Option<u64>,
    delay: Option<Duration>,
    delay_ms: Option<u64>,
    backoff: Option<Value>,
}

/// What spans must look like. Names are exact, or globs when they contain `*`, `?`, `[` or `{`.
#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Expect {
    /// Whether it is judged although evidence is known to be missing.
    allow_incomplete: Option<bool>,
    span: Option<Vec<Span>>,
    spans: Option<Vec<Span>>,
    graph: Option<Graph>,
    order: Option<Order>,
    counts: Option<Counts>,
    count: Option<Counts>,
    window: Option<OneOrMany<Window>>,
    windows: Option<OneOrMany<Window>>,
    status: Option<Statuses>,
    hermeticity: Option<Hermeticity>,
}

/// Some span, or so many, satisfies all of this together.
#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Span {
    /// `clnrm`: one of the spans clnrm makes itself.
    source: Option<String>,
    /// Whether it is judged although evidence is known to be missing.
    allow_incomplete: Option<bool>,
    name: String,
    description: Option<String>,
    kind: Option<Kind>,
    /// The span directly above.
    parent: Option<String>,
    attrs: Option<Attributes>,
    attributes: Option<Attributes>,
    events: Option<Names>,
    status: Option<Status>,
    duration_ms: Option<Range>,
    count: Option<Bounds>,
    /// `false`: no such span is there.
    exists: Option<bool>,
    children: Option<Names>,
    /// Its `service.name`.
    service: Option<String>,
}

/// A span kind, in upper or lower case.
#[derive(Serialize, JsonSchema)]
#[schemars(extend("pattern" = "^(?i)(internal|server|client|producer|consumer)$"))]
struct Kind(String);

/// `ok` is no error, `explicit_ok` is OK set by the code; in upper or lower case.
#[derive(Serialize, JsonSchema)]
#[schemars(extend("pattern" = "^(?i)(ok|error|unset|explicit_ok)$"))]
struct Status(String);

#[derive(Serialize, JsonSchema)]
struct Attributes {
    all: Option<Predicates>,
    any: Option<Predicates>,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Predicates {
    /// A value, or what a value must be.
    Table(BTreeMap<String, Value>),
    /// `"key=value"`
    Pairs(Vec<String>),
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Names {
    all: Option<Strings>,
    any: Option<Strings>,
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Range {
    min: Option<f64>,
    max: Option<f64>,
}

/// How many; a number means exactly so many, and all bounds that are given hold.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Bounds {
    Exactly(u64),
    Between(BoundsTable),
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BoundsTable {
    gte: Option<u64>,
    lte: Option<u64>,
    eq: Option<u64>,
    min: Option<u64>,
    max: Option<u64>,
}

type Pairs = Vec<(String, String)>;

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Graph {
    /// Whether it is judged although evidence is known to be missing.
    allow_incomplete: Option<bool>,
    /// `[parent, child]`: some span of the second name is directly under one of the first.
    must_include: Option<Pairs>,
    parent_child: Option<Pairs>,
    edges: Option<Pairs>,
    /// `[above, below]`: no span of the second name is anywhere under one of the first.
    must_not_cross: Option<Pairs>,
    acyclic: Option<bool>,
    max_depth: Option<u64>,
    must_be_connected: Option<bool>,
    single_root: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Order {
    /// Whether it is judged although evidence is known to be missing.
    allow_incomplete: Option<bool>,
    /// `[first, second]`: both occur, and every second has a first that ended before it began.
    must_precede: Option<Pairs>,
    must_follow: Option<Pairs>,
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Counts {
    /// Whether it is judged although evidence is known to be missing.
    allow_incomplete: Option<bool>,
    spans_total: Option<Bounds>,
    spans: Option<Bounds>,
    events_total: Option<Bounds>,
    events: Option<Bounds>,
    errors_total: Option<Bounds>,
    errors: Option<Bounds>,
    by_name: Option<BTreeMap<String, Bounds>>,
    by_kind: Option<BTreeMap<String, Bounds>>,
    spans_by_kind: Option<BTreeMap<String, Bounds>>,
    by_service: Option<BTreeMap<String, Bounds>>,
}

/// When spans are. Other keys are names of outer spans: `"outer" = { contains = ["inner"] }`.
#[derive(Serialize, JsonSchema)]
struct Window {
    /// Whether it is judged although evidence is known to be missing.
    allow_incomplete: Option<bool>,
    name: Option<String>,
    description: Option<String>,
    /// Every span that `contains` names lies within some span of this name.
    outer: Option<String>,
    contains: Option<Strings>,
    start_span: Option<String>,
    start: Option<String>,
    end_span: Option<String>,
    end: Option<String>,
    min_duration_ms: Option<f64>,
    max_duration_ms: Option<f64>,
    min_span_count: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Statuses {
    /// Whether it is judged although evidence is known to be missing.
    allow_incomplete: Option<bool>,
    all: Option<Status>,
    /// Goes before `all`.
    by_name: Option<BTreeMap<String, Status>>,
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Hermeticity {
    /// Whether it is judged although evidence is known to be missing.
    allow_incomplete: Option<bool>,
    /// No span names a peer outside the test, and nothing was sent outside.
    no_external_services: Option<bool>,
    allow_network: Option<bool>,
    allowed_hosts: Option<Strings>,
    resource_attrs: Option<MustMatch>,
    resource_attrs_must_match: Option<Predicates>,
    span_attrs: Option<ForbidKeys>,
    span_attrs_forbid_keys: Option<Strings>,
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MustMatch {
    must_match: Option<Predicates>,
}

#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ForbidKeys {
    forbid_keys: Option<Strings>,
}

/// A string, or a list of them.
type Strings = OneOrMany<String>;

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum TextOr<T> {
    Text(String),
    Table(Box<T>),
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum NumberOrText {
    Number(u16),
    Text(String),
}

/// `"30s"`, `"500ms"`, `"2m"`, `"1h"`, or a number of seconds.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Duration {
    Text(String),
    Seconds(f64),
}

/// Names and values, or a list of `"NAME=value"`.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Environment {
    Table(BTreeMap<String, Value>),
    Pairs(Vec<String>),
}
