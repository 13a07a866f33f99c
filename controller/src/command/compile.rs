//! `picket compile`

use std::io::{self, Write};

use policy_compiler::lower::{Bridges, Options, lower};
use policy_compiler::model::InterfaceName;
use policy_compiler::{compile, render};

use super::{Outcome, load};
use crate::cli::{Compile, CompileOutput};

pub(super) fn run(arguments: &Compile) -> anyhow::Result<Outcome> {
    let cluster = load(&arguments.input)?;
    anyhow::ensure!(
        cluster.nodes.contains_key(&arguments.node),
        "there is no node {}: the nodes are {}",
        arguments.node,
        cluster.nodes.keys().cloned().collect::<Vec<_>>().join(", ")
    );
    let bridges: Result<Vec<_>, _> = arguments
        .bridges
        .iter()
        .map(|name| InterfaceName::new(name))
        .collect();
    let options = Options {
        node_egress: arguments.node_egress.node_egress.into(),
        bridges: match bridges? {
            none if none.is_empty() => Bridges::Any,
            named => Bridges::Named(named.into_iter().collect()),
        },
        ..Options::default()
    };
    let ir = compile::compile(&cluster, &arguments.node);
    let mut out = io::stdout().lock();
    match arguments.output {
        CompileOutput::Nft => out.write_all(render::text(&lower(&ir, &options)).as_bytes())?,
        CompileOutput::Json => {
            serde_json::to_writer_pretty(&mut out, &render::json(&lower(&ir, &options))?)?;
            writeln!(out)?;
        }
        CompileOutput::Ir => {
            serde_json::to_writer_pretty(&mut out, &ir)?;
            writeln!(out)?;
        }
    }
    Ok(Outcome::Done)
}
