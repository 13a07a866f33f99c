//! `picket cni`

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use cni_chain::install::{Entry, Error, Installer, Pace, Removed, Report, Settings, TYPE};
use tracing::{error, info, warn};

use super::stop::Waits;
use super::{Outcome, stop};
use crate::agent::log;
use crate::cli::{Cni, CniCommand, CniFolders, CniInstall, CniUninstall, CniWatch};

/// How often is looked whether a watch has ended: of a lock that somebody else lets go of the kernel tells nothing.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn run(arguments: &Cni) -> anyhow::Result<Outcome> {
    match &arguments.command {
        CniCommand::Install(arguments) => install(arguments),
        CniCommand::Status(arguments) => status(arguments),
        CniCommand::Uninstall(arguments) => uninstall(arguments),
        CniCommand::Watch(arguments) => watch(arguments),
    }
}

fn install(arguments: &CniInstall) -> anyhow::Result<Outcome> {
    let mut failures = Vec::new();
    for installer in installers(arguments)? {
        let installed = match installer.install() {
            Ok(installed) => installed,
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        super::say(&installed.notes)?;
        let what = match installed.is_edited || installed.is_placed {
            true => "installed",
            false => "was installed already",
        };
        let path = installed.configuration.display();
        writeln!(io::stdout(), "{TYPE} {what} in {path}")?;
    }
    done(&failures)
}

fn done(failures: &[String]) -> anyhow::Result<Outcome> {
    anyhow::ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(Outcome::Done)
}

/// Folders that were given the entry and are not named any more: a purge would refuse.
fn forgotten(installers: &[Installer], folders: &CniFolders) -> anyhow::Result<Vec<String>> {
    let named = folders.conf_dirs.iter().map(std::path::absolute);
    let named = named.collect::<io::Result<Vec<_>>>()?;
    // All of them have the same folder of plugins.
    let recorded = installers.first().map(Installer::recorded).transpose()?;
    let others = recorded
        .into_iter()
        .flatten()
        .filter(|of| !named.contains(of));
    let bin_dir = folders.bin_dir.display();
    let note = |folder: PathBuf| {
        let folder = folder.display();
        format!(
            "{folder}: was given the plugin's entry and is not named any more: on the node, picket cni uninstall --conf-dir {folder} --bin-dir {bin_dir} takes it out"
        )
    };
    Ok(others.map(note).collect())
}

fn status(arguments: &CniInstall) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::Done;
    let mut out = io::stdout().lock();
    let installers = installers(arguments)?;
    super::say(&forgotten(&installers, &arguments.folders)?)?;
    for installer in installers {
        let status = installer.status();
        super::say(&status.notes)?;
        if !status.is_ready() {
            outcome = Outcome::Findings;
        } else if let Some(path) = &status.configuration {
            writeln!(out, "{TYPE} is installed in {}", path.display())?;
        }
        for problem in &status.problems {
            writeln!(out, "not installed: {problem}")?;
        }
    }
    Ok(outcome)
}

fn uninstall(arguments: &CniUninstall) -> anyhow::Result<Outcome> {
    let installers = arguments.folders.conf_dirs.iter().map(|conf_dir| {
        let settings = settings(&arguments.folders, conf_dir, Path::new("").into());
        Installer::new(settings)
    });
    let installers = installers.collect::<Result<Vec<_>, _>>()?;
    let (mut is_clean, mut failures) = (true, Vec::new());
    let deadline = arguments.wait.map(|wait| Instant::now() + wait);
    let mut waits = Waits::new()?;
    let mut out = io::stdout().lock();
    for installer in &installers {
        let removed = match remove_entries(installer, deadline, &mut waits)? {
            Ok(removed) => removed,
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        super::say(&removed.notes)?;
        for path in &removed.changed {
            writeln!(out, "{TYPE} taken out of {}", path.display())?;
        }
        is_clean &= removed.changed.is_empty();
    }
    done(&failures)?;
    if arguments.purge {
        if !is_clean {
            // For runtimes that have the old list in memory there is nothing to wait for but time.
            let waited = waits.sleep(Duration::from_secs(arguments.purge_after_seconds));
            waited.with_context(|| {
                let path = arguments.folders.bin_dir.join(TYPE);
                format!("{}: it is not removed yet", path.display())
            })?;
        }
        for installer in &installers {
            installer.check_unlisted()?;
        }
        // All of them have the same folder of plugins.
        if let Some(installer) = installers.first()
            && installer.remove_binary()?
        {
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

/// Takes the entries out, once nobody watches any more.
fn remove_entries(
    installer: &Installer,
    deadline: Option<Instant>,
    waits: &mut Waits,
) -> anyhow::Result<Result<Removed, Error>> {
    let mut is_told = false;
    loop {
        let removed = installer.remove_entries();
        let Err(error @ Error::Watched { .. }) = &removed else {
            return Ok(removed);
        };
        if deadline.is_none_or(|deadline| Instant::now() >= deadline) {
            return Ok(removed);
        }
        if !is_told {
            super::say(&[format!("{error}; waiting for it to end")])?;
            is_told = true;
        }
        let waited = waits.sleep(LOOK);
        waited.with_context(|| format!("{error}; nothing was changed there"))?;
    }
}

fn watch(arguments: &CniWatch) -> anyhow::Result<Outcome> {
    let installers = installers(&arguments.install)?;
    let _flush = log::start(
        arguments.log.log_format.into(),
        arguments.log.log_level.into(),
    )?;
    let (stop, stopped) = UnixStream::pair().context("no socket can be made")?;
    let runtime = stop::runtime()?;
    let told = {
        let _entered = runtime.enter();
        stop::stopped()?
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(told);
            drop(stop);
        })?;
    match forgotten(&installers, &arguments.install.folders) {
        Ok(notes) => notes.iter().for_each(|note| warn!("{note}")),
        Err(failed) => warn!("{failed}"),
    }
    thread::scope(|scope| {
        for installer in installers {
            // All of them see that the other end is closed.
            let stopped = stopped.as_fd();
            scope.spawn(move || installer.watch(&Pace::default(), stopped, tell));
        }
    });
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

/// One for each folder of configurations.
fn installers(arguments: &CniInstall) -> anyhow::Result<Vec<Installer>> {
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
    let installers = arguments.folders.conf_dirs.iter().map(|conf_dir| {
        Installer::new(Settings {
            entry: entry.clone(),
            ..settings(&arguments.folders, conf_dir, plugin.clone())
        })
    });
    Ok(installers.collect::<Result<_, _>>()?)
}

fn settings(folders: &CniFolders, conf_dir: &Path, plugin: PathBuf) -> Settings {
    Settings {
        conf_dir: conf_dir.to_owned(),
        bin_dir: folders.bin_dir.clone(),
        conf_name: folders.cni_conf_name.clone(),
        ..Settings::new(plugin)
    }
}
