//! `picket cni`

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use cni_chain::install::{Entry, Installer, Pace, Report, Settings, TYPE};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use super::Outcome;
use crate::agent::log;
use crate::cli::{Cni, CniCommand, CniFolders, CniInstall, CniUninstall, CniWatch};

pub(super) fn run(arguments: &Cni) -> anyhow::Result<Outcome> {
    match &arguments.command {
        CniCommand::Install(arguments) => install(arguments),
        CniCommand::Uninstall(arguments) => uninstall(arguments),
        CniCommand::Watch(arguments) => watch(arguments),
    }
}

fn install(arguments: &CniInstall) -> anyhow::Result<Outcome> {
    let installed = installer(arguments)?.install()?;
    super::say(&installed.notes)?;
    let what = match installed.is_edited || installed.is_placed {
        true => "installed",
        false => "was installed already",
    };
    let path = installed.configuration.display();
    writeln!(io::stdout(), "{TYPE} {what} in {path}")?;
    Ok(Outcome::Done)
}

fn uninstall(arguments: &CniUninstall) -> anyhow::Result<Outcome> {
    let installer = Installer::new(settings(&arguments.folders, Path::new("").into()))?;
    let removed = installer.remove_entries()?;
    super::say(&removed.notes)?;
    let mut out = io::stdout().lock();
    for path in &removed.changed {
        writeln!(out, "{TYPE} taken out of {}", path.display())?;
    }
    let mut is_clean = removed.changed.is_empty();
    if arguments.purge {
        if !is_clean {
            // For runtimes that have the old list in memory there is nothing to wait for but time.
            thread::sleep(Duration::from_secs(arguments.purge_after_seconds));
        }
        if installer.remove_binary()? {
            is_clean = false;
            let path = arguments.folders.bin_dir.join(TYPE);
            writeln!(out, "removed {}", path.display())?;
        }
    }
    if is_clean {
        writeln!(out, "{TYPE} was in no list")?;
    }
    Ok(Outcome::Done)
}

fn watch(arguments: &CniWatch) -> anyhow::Result<Outcome> {
    let installer = installer(&arguments.install)?;
    let _flush = log::start(
        arguments.log.log_format.into(),
        arguments.log.log_level.into(),
    )?;
    let (stop, stopped) = UnixStream::pair().context("no socket can be made")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        let signals = (SignalKind::terminate(), SignalKind::interrupt());
        (signal(signals.0)?, signal(signals.1)?)
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            });
            drop(stop);
        })?;
    installer.watch(&Pace::default(), stopped.as_fd(), tell);
    info!("stopped; what is installed stays installed");
    Ok(Outcome::Done)
}

fn tell(report: Report) {
    match report {
        Report::Installed(installed) => {
            let configuration = installed.configuration.display();
            info!(%configuration, edited = installed.is_edited, placed = installed.is_placed, "the plugin is installed");
            for note in installed.notes {
                warn!("{note}");
            }
        }
        Report::Failed(failed) => error!("the plugin is not installed: {failed}"),
        Report::Fight { writes, wait } => warn!(
            writes,
            wait_seconds = wait.as_secs(),
            "somebody goes on undoing what is installed: find out who writes there"
        ),
        Report::Deaf(failed) => warn!("changes are seen only every 30 seconds: {failed}"),
    }
}

fn installer(arguments: &CniInstall) -> anyhow::Result<Installer> {
    let plugin = match &arguments.plugin {
        Some(path) => path.clone(),
        None => std::env::current_exe()
            .context("this program's own path can not be told: name the plugin with --plugin")?
            .with_file_name(TYPE),
    };
    let entry = Entry {
        run_dir: arguments.run_dir.run_dir.clone(),
        timeout_seconds: arguments.timeout_seconds,
        on_agent_unavailable: arguments.on_agent_unavailable.into(),
        log_file: None,
        exclude_namespaces: arguments.exclude_namespaces.clone(),
        routing_namespaces: arguments.routing_namespaces.clone(),
    };
    let settings = Settings {
        entry,
        ..settings(&arguments.folders, plugin)
    };
    Ok(Installer::new(settings)?)
}

fn settings(folders: &CniFolders, plugin: std::path::PathBuf) -> Settings {
    Settings {
        conf_dir: folders.conf_dir.clone(),
        bin_dir: folders.bin_dir.clone(),
        conf_name: folders.cni_conf_name.clone(),
        ..Settings::new(plugin)
    }
}
