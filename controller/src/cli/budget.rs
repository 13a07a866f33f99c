//! Budgets of namespaces on the command line.

use clap::Args;
use policy_compiler::budget::{Budgets, Resource};

/// The budgets.
#[derive(Debug, Args)]
pub struct BudgetArg {
    /// The most that a namespace's policies may need on a node, in place of ipblock-entries=10000, classes=500,
    /// rules=20000, ports=50000, elements=250000, steps=5000000; repeatable, or with commas
    #[arg(long = "budget", value_name = "RESOURCE=N", value_delimiter = ',', value_parser = limit)]
    pub limits: Vec<(Resource, usize)>,
}

impl BudgetArg {
    /// The defaults, with the limits that are given in their place.
    pub fn budgets(&self) -> Budgets {
        let mut budgets = Budgets::default();
        for (resource, limit) in &self.limits {
            budgets.set(*resource, *limit);
        }
        budgets
    }
}

fn limit(text: &str) -> Result<(Resource, usize), String> {
    let (name, number) = text
        .split_once('=')
        .ok_or("must be RESOURCE=N, as rules=20000")?;
    let mut resources = Resource::ALL.into_iter();
    let resource = resources.find(|resource| resource.name() == name);
    let resource = resource.ok_or_else(|| {
        let names = Resource::ALL.map(Resource::name).join(", ");
        format!("there is no resource {name}: it must be one of {names}")
    })?;
    let number = number
        .parse()
        .map_err(|_| format!("the limit of {name} must be a number"))?;
    Ok((resource, number))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn help_names_the_default_of_every_resource() {
        let mut command = Cli::command();
        for name in ["compile", "verify"] {
            let help = command
                .find_subcommand_mut(name)
                .map(|c| c.render_long_help().to_string());
            let help = help
                .unwrap_or_default()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            for resource in Resource::ALL {
                let default = format!("{resource}={}", Budgets::default().limit(resource));
                assert!(help.contains(&default), "{name}: {default}: {help}");
            }
        }
    }

    #[test]
    fn a_limit_names_its_resource() {
        assert_eq!(limit("rules=7"), Ok((Resource::Rules, 7)));
        for wrong in [
            "rules",
            "rules=",
            "rules=-1",
            "rules=many",
            "Rules=1",
            "pods=1",
            "=1",
        ] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }
}
