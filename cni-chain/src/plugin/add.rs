//! ADD: the interface passes nothing until the agent says that the policies of its pod are in force.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use super::agent::{self, Outcome, Unavailable};
use super::configuration::Configuration;
use super::environment::Environment;
use super::error::{Code, Error};
use super::host::Host;
use super::log::Log;
use super::result;
use crate::attachment::{Attachment, PodIdentity, Records, is_link_local};
use crate::entry::OnAgentUnavailable;
use crate::protocol::Request;

/// For the agent's answer to come, when it has waited for all the time that it may.
const HEAR: Duration = Duration::from_millis(250);

/// The result before us, when the pod may start.
pub(super) fn add(
    started: Instant,
    configuration: &Configuration<'_>,
    environment: &Environment,
    log: &Log,
) -> Result<Vec<u8>, Error> {
    let result = configuration.previous_result.ok_or_else(|| {
        Error::new(
            Code::Configuration,
            "prevResult is missing",
            "picket-cni comes behind the plugin that makes the interface: move it to the end of the list",
        )
    })?;
    let output = || result.get().as_bytes().to_vec();
    let netns = environment.netns()?;
    let Some(pod) = &environment.pod else {
        log.file_only("not a pod of Kubernetes, passed on");
        return Ok(output());
    };
    if configuration.exclude_namespaces.contains(&pod.namespace) {
        log.file_only("its namespace is excluded, passed on");
        return Ok(output());
    }
    let interface = environment.id.interface();
    let mut addresses = result::addresses(result.get(), netns, interface)?;
    let mut host = Host::find(netns, interface)?;
    if addresses.is_empty() {
        addresses = host.addresses_inside()?;
    }
    addresses.extend(host.link_local_addresses()?);
    let mut attachment = Attachment {
        id: environment.id.clone(),
        network: configuration.network.clone(),
        netns: netns.to_owned(),
        netns_inode: host.netns_inode(),
        pod: pod.clone(),
        addresses,
        path: host.path().clone(),
        routes: configuration.routing_namespaces.contains(&pod.namespace),
    };
    let records = Records::new(&configuration.run_dir);
    attachment.addresses = not_of_others(&attachment, &mut host, &records, log)?;
    records
        .write(&attachment)
        .map_err(|error| Error::of(Code::Io, "what is attached can not be noted down", &error))?;
    let held = hold(configuration, &mut host, pod, log)?;
    // Not all of the time: why the agent does not have it in force is to be heard.
    let request = |left: Duration| Request::Attach {
        id: attachment.id.clone(),
        wait_milliseconds: (left - HEAR.min(left / 2)).as_millis() as u64,
    };
    let deadline = started + configuration.timeout;
    match agent::ask(&configuration.run_dir, request, deadline) {
        Ok(Outcome::Done) => log.file_only(&format!(
            "policies are in force after {} ms, {:?}",
            started.elapsed().as_millis(),
            attachment.path
        )),
        Ok(Outcome::Refused {
            code,
            message,
            details,
        }) => return Err(Error::new(Code::Agent(code), message, details)),
        Err(unavailable) => go_on(configuration, &mut host, held, &unavailable, log)?,
    }
    Ok(output())
}

/// Whether the interface is in quarantine.
fn hold(
    configuration: &Configuration<'_>,
    host: &mut Host,
    pod: &PodIdentity,
    log: &Log,
) -> Result<bool, Error> {
    match host.quarantine(pod, log) {
        // Who lets pods start without policies lets them start without this too.
        Err(error) if configuration.on_agent_unavailable == OnAgentUnavailable::Allow => {
            log.event(&format!("not in quarantine: {error}"));
            Ok(false)
        }
        held => held,
    }
}

/// Goes on without the agent, if the configuration says so.
fn go_on(
    configuration: &Configuration<'_>,
    host: &mut Host,
    held: bool,
    unavailable: &Unavailable,
    log: &Log,
) -> Result<(), Error> {
    let seconds = configuration.timeout.as_secs();
    let error = |message: &str| Error::of(Code::TryAgain, message, unavailable);
    match configuration.on_agent_unavailable {
        OnAgentUnavailable::Block => Err(error(&format!(
            "the policies of the pod are not in force after {seconds} s"
        ))),
        OnAgentUnavailable::Quarantine if held => {
            log.event(&format!(
                "WARNING: it starts in quarantine, without network, until the agent has its policies in force: {unavailable}"
            ));
            Ok(())
        }
        OnAgentUnavailable::Quarantine => Err(error(
            "the policies of the pod are not in force, and its interface can not be in quarantine",
        )),
        OnAgentUnavailable::Allow => {
            host.release()?;
            log.event(&format!(
                "WARNING: it starts WITHOUT POLICIES, as onAgentUnavailable says: {unavailable}"
            ));
            Ok(())
        }
    }
}

/// The addresses that nobody else has. Policies hold for addresses: two that have the same one would have each other's.
///
/// Of two links each may have a link-local address: the first has it, and the other is known by the rest of its own.
fn not_of_others(
    attachment: &Attachment,
    host: &mut Host,
    records: &Records,
    log: &Log,
) -> Result<BTreeSet<IpAddr>, Error> {
    let mut addresses = attachment.addresses.clone();
    let refused = |address: IpAddr, whose: &str| {
        Error::new(
            Code::Configuration,
            format!("the pod has the address {address} of {whose}"),
            "policies can not tell them apart: give it another address",
        )
    };
    let of_node = host.addresses_of_node()?;
    let of_node = addresses.intersection(&of_node);
    if let Some(address) = of_node.copied().find(|address| !is_link_local(*address)) {
        return Err(refused(address, "this node"));
    }
    let listed = records.list();
    // One that can not be read is the agent's to tell.
    let (others, _) = listed
        .map_err(|error| Error::of(Code::Io, "what is attached can not be listed", &error))?;
    let others = others.iter().filter(|other| other.id != attachment.id);
    for other in others {
        let shared: Vec<_> = addresses.intersection(&other.addresses).copied().collect();
        if shared.is_empty() || !is_alive(other) {
            continue;
        }
        let whose = format!("pod {}/{}", other.pod.namespace, other.pod.name);
        for address in shared {
            if !is_link_local(address) {
                return Err(refused(address, &whose));
            }
            addresses.remove(&address);
            log.event(&format!(
                "its link-local address {address} is also that of {whose}, and is not noted down"
            ));
        }
    }
    Ok(addresses)
}

/// Whether its network namespace is there still.
fn is_alive(attachment: &Attachment) -> bool {
    std::fs::metadata(&attachment.netns)
        .is_ok_and(|metadata| metadata.ino() == attachment.netns_inode)
}
