//! Proof with real packets: the cluster of the manifests in network namespaces, its nodes' rules in the kernel,
//! and for each flow what a packet did beside what the specification says.

mod edges;
mod ends;
mod full;
mod plan;
mod report;
mod sample;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use kernel::{Generation, Halted, Nftables};
use policy_compiler::compile::compile;
use policy_compiler::delta::delta;
use policy_compiler::evaluate::{NodeEgress, Verdict};
use policy_compiler::lower::{Attachment, Bridges, Options, lower};
use policy_compiler::model::{Cluster, InterfaceName, InterfaceNameError, Pod};
use policy_compiler::ruleset::Ruleset;
use testbed::{Namespace, Network, Outcome, Place, ProbeOptions, Testbed};

use crate::flow::{Answer, Answered, Question};

pub use full::every_pair;
pub use report::{Summary, table};
pub use sample::{Sample, sample};

/// Why a verification could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Namespaces, links or probes failed.
    #[error(transparent)]
    Testbed(#[from] testbed::Error),
    /// nftables could not be asked. The remedy is in the source.
    #[error("nftables could not be asked")]
    Nftables(#[from] kernel::Error),
    /// The kernel did not take the rules.
    #[error("the rules could not be loaded")]
    Rules(#[from] Halted),
    /// The testbed named an interface that rules cannot hold.
    #[error(transparent)]
    Interface(#[from] InterfaceNameError),
}

/// How to verify.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How pods are attached to their node.
    pub network: Network,
    /// Whether isolated pods may reach their own node.
    pub node_egress: NodeEgress,
    /// How probes are sent.
    pub probes: ProbeOptions,
}

/// Makes the rules of a node. [`compiled`] is the compiler; tests put others in its place.
pub type Compiler<'a> = &'a dyn Fn(&Cluster, &str, &Options) -> Ruleset;

/// What `picket compile` prints for the node.
pub fn compiled(cluster: &Cluster, node: &str, options: &Options) -> Ruleset {
    lower(&compile(cluster, node), options)
}

/// Answers every question by the specification and by a packet through the rules that `compiler` makes. The
/// questions that cannot be asked are answered with their error. `progress` is told how many flows are decided, of
/// how many.
///
/// # Errors
/// The testbed's; disagreements are not errors.
pub fn verify(
    cluster: &Cluster,
    questions: &[Question],
    settings: &Settings,
    compiler: Compiler<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Answer>, Error> {
    let (mut answers, asked): (Vec<_>, Vec<_>) = questions
        .iter()
        .map(|question| Answer::to(cluster, question, settings.node_egress))
        .unzip();
    let flows: Vec<_> = asked.iter().flatten().collect();
    let testbed = Testbed::build(&plan::topology(cluster, &flows, settings.network))?;
    for (place, namespace) in testbed.namespaces() {
        if let Place::Node(node) = place {
            let options = options(cluster, node, &testbed, settings)?;
            load(namespace, &compiler(cluster, node, &options))?;
        }
    }
    let expected = answers.iter().filter_map(|answer| match &answer.answered {
        Answered::Evaluated { evaluation, .. } => Some(evaluation.verdict),
        Answered::Unaskable { .. } => None,
    });
    let probes: Vec<_> = flows
        .iter()
        .zip(expected)
        .map(|(asked, expected)| plan::probe(cluster, asked, expected))
        .collect();
    let never = AtomicBool::new(false);
    let outcomes = testbed::probe(&testbed, &probes, &settings.probes, &never, progress)?;
    let mut outcomes = outcomes.into_iter();
    for answer in &mut answers {
        if let Answered::Evaluated { packet, .. } = &mut answer.answered {
            *packet = outcomes.next().map(|outcome| match outcome {
                Outcome::Passed => Verdict::Allow,
                Outcome::Dropped => Verdict::Deny,
            });
        }
    }
    Ok(answers)
}

/// Loads the rules as the agent does when it finds a kernel without any.
fn load(namespace: &Namespace, ruleset: &Ruleset) -> Result<(), Error> {
    let mut nftables = namespace.run(Nftables::open)??;
    let Generation(generation) = nftables.generation()?;
    let plan = delta(&Ruleset::default(), ruleset, generation);
    nftables.execute(&plan, None)?;
    Ok(())
}

/// What the testbed knows of a node's interfaces, as the plugin does on a real one.
///
/// # Errors
/// The testbed's names of interfaces, if rules cannot hold them.
pub fn options(
    cluster: &Cluster,
    node: &str,
    testbed: &Testbed,
    settings: &Settings,
) -> Result<Options, InterfaceNameError> {
    let mut attachments = BTreeMap::new();
    let mut bridges = BTreeSet::new();
    let of_node = |pod: &&Pod| pod.node.as_deref() == Some(node);
    for pod in cluster.pods.values().filter(of_node) {
        let id = pod.id.to_string();
        let Some(attachment) = testbed.attachment(&id) else {
            continue;
        };
        if let Some(bridge) = &attachment.bridge {
            bridges.insert(InterfaceName::new(bridge)?);
        }
        let attachment = Attachment {
            interface: InterfaceName::new(&attachment.interface)?,
            bridged: attachment.bridge.is_some(),
            addresses: None,
            routes: false,
        };
        attachments.insert(id, vec![attachment]);
    }
    Ok(Options {
        node_egress: settings.node_egress,
        bridges: Bridges::Named(bridges),
        attachments,
        ..Options::default()
    })
}
