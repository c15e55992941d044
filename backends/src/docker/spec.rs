//! What Docker is asked to make.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType,
    MountVolumeOptions, MountVolumeOptionsDriverConfig,
};

use crate::action::Network;
use crate::agent;
use crate::engine::{Bind, Files, Layer, Plan};
use crate::syscalls::FILTER;

/// A container's specification.
pub(crate) struct Spec {
    pub(super) body: ContainerCreateBody,
    /// Folders that are copied into volumes of the container, which take the writes.
    pub(super) copies: Vec<Copy>,
}

/// A folder to be copied.
pub(super) struct Copy {
    pub(super) source: PathBuf,
    pub(super) target: String,
    /// Where the archive of it is made.
    pub(super) archive: PathBuf,
}

pub(super) fn spec(plan: &Plan<'_>, files: Files) -> io::Result<Spec> {
    let folder = plan.container.folder;
    let mut mounts: Vec<Mount> = Vec::new();
    let mut copies = Vec::new();
    for (index, Layer { source, target, of_host }) in files.layers.into_iter().enumerate() {
        if of_host {
            mounts.push(layer(&source, target, &folder.join(format!("layer{index}")))?);
        } else {
            mounts.push(volume(target.clone(), None));
            copies.push(Copy { source, target, archive: folder.join(format!("copy{index}.tar")) });
        }
    }
    mounts.extend(files.binds.into_iter().map(bind));
    let limits = plan.container.limits;
    let memory = limits
        .memory_mb
        .map(|megabytes| i64::try_from(megabytes).unwrap_or(i64::MAX).saturating_mul(1 << 20));
    let env = plan.env().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let security = ["no-new-privileges", "label=disable"].into_iter();
    let security = security.chain(FILTER.is_some().then_some("seccomp=unconfined"));
    let body = ContainerCreateBody {
        image: Some(plan.facts.reference.clone()),
        entrypoint: Some(plan.entrypoint()),
        cmd: Some(Vec::new()),
        // One that joins another's network has that one's name.
        hostname: plan.joins.is_none().then(|| plan.container.service.name.clone()),
        env: Some(env),
        labels: Some(plan.labels()),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..default() }),
        stop_timeout: Some(0),
        host_config: Some(HostConfig {
            network_mode: Some(match (plan.joins, plan.linked_by) {
                (Some(first), _) => format!("container:{first}"),
                (None, Some(network)) => network.to_owned(),
                (None, None) if plan.container.network == Network::Open => "bridge".to_owned(),
                (None, None) => "none".to_owned(),
            }),
            mounts: Some(mounts),
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(plan.capabilities()),
            security_opt: Some(security.map(str::to_owned).collect()),
            sysctls: Some(plan.sysctls().into_iter().collect()),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), ..default() }),
            nano_cpus: limits.cpu_millicores.map(|thousandths| i64::from(thousandths) * 1_000_000),
            memory,
            // With swap: nothing may be put elsewhere instead.
            memory_swap: memory,
            pids_limit: limits.pids.map(i64::from),
            auto_remove: Some(true),
            init: Some(false),
            ..default()
        }),
        ..default()
    };
    Ok(Spec { body, copies })
}

/// What removes the ways out of a container's network, from within that.
pub(super) fn cut_off(plan: &Plan<'_>) -> ContainerCreateBody {
    let program = format!("{}/agent", agent::FOLDER);
    let folder = plan.container.folder.to_owned();
    let agent = Bind { source: folder, target: agent::FOLDER.to_owned(), read_only: true };
    ContainerCreateBody {
        image: Some(plan.facts.reference.clone()),
        entrypoint: Some(vec![program, agent::CUT_OFF.to_owned()]),
        cmd: Some(Vec::new()),
        user: Some("0".to_owned()),
        labels: Some(plan.labels()),
        host_config: Some(HostConfig {
            network_mode: Some(format!("container:{}", plan.name)),
            mounts: Some(vec![bind(agent)]),
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(vec!["NET_ADMIN".to_owned()]),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), ..default() }),
            ..default()
        }),
        ..default()
    }
}

fn bind(Bind { source, target, read_only }: Bind) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.display().to_string()),
        target: Some(target),
        read_only: Some(read_only),
        ..default()
    }
}

/// A volume that goes with the container.
fn volume(target: String, driver_config: Option<MountVolumeOptionsDriverConfig>) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        target: Some(target),
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(true),
            driver_config,
            ..default()
        }),
        ..default()
    }
}

/// A folder of this machine under a layer, which lies in the folder `own`.
fn layer(lower: &Path, target: String, own: &Path) -> io::Result<Mount> {
    let (upper, work) = (own.join("upper"), own.join("work"));
    for folder in [&upper, &work] {
        fs::create_dir_all(folder)?;
    }
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    let options = [("type", "overlay"), ("device", "overlay"), ("o", layers.as_str())];
    let options: HashMap<_, _> =
        options.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let driver =
        MountVolumeOptionsDriverConfig { name: Some("local".to_owned()), options: Some(options) };
    Ok(volume(target, Some(driver)))
}

fn default<T: Default>() -> T {
    T::default()
}
