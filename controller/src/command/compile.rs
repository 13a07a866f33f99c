//! `picket compile`

use std::collections::BTreeMap;
use std::io::{self, Write};

use policy_compiler::lower::{Options, close, lower};
use policy_compiler::model::Cluster;
use policy_compiler::name::Namer;
use policy_compiler::{budget, compile, render};

use super::{Outcome, bridges, load};
use crate::attachments::{Applied, Document};
use crate::budget::tell;
use crate::cli::{Compile, CompileOutput};
use crate::source;

/// The objects with what is known of interfaces.
fn attach(arguments: &Compile, cluster: Cluster) -> anyhow::Result<Applied> {
    let Some(path) = &arguments.attachments else {
        return Ok(Applied {
            cluster,
            interfaces: BTreeMap::new(),
            closed: BTreeMap::new(),
        });
    };
    // Standard input is for objects.
    let text = source::read_text(path, &mut io::empty())?;
    let file = path.display().to_string();
    let document = Document::read(&file, &text)?;
    Ok(document.apply(&file, &arguments.node, cluster)?)
}

pub(super) fn run(arguments: &Compile) -> anyhow::Result<Outcome> {
    let cluster = load(&arguments.input)?;
    anyhow::ensure!(
        cluster.nodes.contains_key(&arguments.node),
        "there is no node {}: the nodes are {}",
        arguments.node,
        cluster.nodes.keys().cloned().collect::<Vec<_>>().join(", ")
    );
    let Applied {
        cluster,
        interfaces,
        closed: unknown,
    } = attach(arguments, cluster)?;
    let options = Options {
        node_egress: arguments.node_egress.node_egress.into(),
        bridges: bridges(&arguments.bridges)?,
        attachments: interfaces,
        ..Options::default()
    };
    let lowered = |ir| close(&lower(ir, &options), &unknown);
    let exceeded = budget::check(&cluster, &arguments.node, &arguments.budget.budgets());
    let closed = budget::pods_of(&cluster, &arguments.node, exceeded.keys());
    let ir = compile::compile_closed(&cluster, &arguments.node, &closed, Namer::default());
    let mut out = io::stdout().lock();
    match arguments.output {
        CompileOutput::Nft => out.write_all(render::text(&lowered(&ir)).as_bytes())?,
        CompileOutput::Json => {
            serde_json::to_writer_pretty(&mut out, &render::json(&lowered(&ir))?)?;
            writeln!(out)?;
        }
        CompileOutput::Ir => {
            serde_json::to_writer_pretty(&mut out, &ir)?;
            writeln!(out)?;
        }
    }
    if exceeded.is_empty() {
        return Ok(Outcome::Done);
    }
    out.flush()?;
    let namespaces: Vec<_> = exceeded.keys().map(String::as_str).collect();
    let closed = format!(
        "closed in the rules of node {}, where their pods send and receive nothing: {}",
        arguments.node,
        namespaces.join(", ")
    );
    tell(exceeded.values(), &closed)?;
    Ok(Outcome::Findings)
}
