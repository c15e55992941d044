//! What Podman is asked to make.

use serde_json::{Value, json};

use crate::action::{Limits, Network};
use crate::engine::{Bind, Files, Layer, Plan};
use crate::syscalls::FILTER;

/// The file in a container's folder for what its agent says when it cannot serve.
pub(super) const LOG: &str = "agent.log";

/// A container's specification.
pub(super) fn spec(plan: &Plan<'_>, files: Files) -> Value {
    let netns = match (plan.joins, plan.linked_by) {
        (Some(first), _) => json!({"nsmode": "container", "value": first}),
        (None, Some(_)) => json!({"nsmode": "bridge"}),
        (None, None) if plan.container.network == Network::Open => json!({"nsmode": "bridge"}),
        (None, None) => json!({"nsmode": "none"}),
    };
    let bind = |Bind { source, target, read_only }: Bind| {
        let access = if read_only { "ro" } else { "rw" };
        json!({
            "type": "bind",
            "source": source,
            "destination": target,
            "options": ["rbind", "nosuid", "nodev", access],
        })
    };
    let layer =
        |Layer { source, target, .. }: Layer| json!({"source": source, "destination": target});
    let object = |pairs: Vec<(String, String)>| -> Value { pairs.into_iter().collect() };
    let mut spec = json!({
        "name": plan.name,
        "image": plan.facts.reference,
        "entrypoint": plan.entrypoint(),
        "command": [],
        "hostname": plan.container.service.name,
        "netns": netns,
        "mounts": files.binds.into_iter().map(bind).collect::<Value>(),
        "overlay_volumes": files.layers.into_iter().map(layer).collect::<Value>(),
        "cap_drop": ["ALL"],
        "cap_add": plan.capabilities(),
        "no_new_privileges": true,
        "selinux_opts": ["disable"],
        "httpproxy": false,
        "systemd": "false",
        "terminal": false,
        "stdin": false,
        "healthconfig": {"Test": ["NONE"]},
        "log_configuration": {"driver": "k8s-file", "path": plan.container.folder.join(LOG)},
        "remove": true,
        "stop_timeout": 0,
        "sysctl": object(plan.sysctls()),
        "labels": plan.labels(),
    });
    if let Some(network) = plan.linked_by {
        spec["networks"] = json!({network: {}});
    }
    if FILTER.is_some() {
        spec["seccomp_profile_path"] = json!("unconfined");
    }
    spec["resource_limits"] = limits(plan.container.limits);
    if plan.facts.of_host {
        spec["env"] = plan.env().into_iter().collect();
        // The machine's own /etc/passwd, not one the engine makes up.
        spec["manage_password"] = json!(false);
    }
    spec
}

/// Limits, as the OCI runtime specification has them.
fn limits(Limits { cpu_millicores, memory_mb, pids }: &Limits) -> Value {
    let mut limits = json!({});
    if let Some(millicores) = cpu_millicores {
        limits["cpu"] = json!({"period": 100_000, "quota": u64::from(*millicores) * 100});
    }
    if let Some(bytes) = memory_mb.map(|megabytes| megabytes.saturating_mul(1 << 20)) {
        // Memory and swap together: nothing may be put elsewhere instead.
        limits["memory"] = json!({"limit": bytes, "swap": bytes});
    }
    if let Some(most) = pids {
        limits["pids"] = json!({"limit": most});
    }
    limits
}
