//! `picket lint`

use clap::{Args, ValueEnum};
use policy_compiler::model::Cidr;

use super::{BudgetArg, Input};
use crate::lint::{Code, Severity};

pub(super) const EXAMPLES: &str = "\
Examples:
  picket lint -f manifests/
  picket lint -f manifests/ --ignore P012,P014 --fail-on error
  picket lint -f manifests/ --select dns-forgotten
  picket lint -f manifests/ -o sarif > lint.sarif       for code scanning
  kubectl get ns,no,po,svc,netpol -A -o yaml | picket lint -f - --service-cidr 10.96.0.0/12

An annotation of a NetworkPolicy silences it alone: picket.io/lint-ignore: P003,P012
docs/lint.md has every code.";

/// `picket lint`
#[derive(Debug, Args)]
pub struct Lint {
    /// Objects.
    #[command(flatten)]
    pub input: Input,
    /// Only these codes or names, with commas between them
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    pub select: Vec<Code>,
    /// Not these codes or names, with commas between them
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    pub ignore: Vec<Code>,
    /// The least severity that makes the exit code 1
    #[arg(long, value_name = "SEVERITY", value_enum, default_value_t = FailOn::Warning)]
    pub fail_on: FailOn,
    /// A range of Service addresses, repeatable; Services in the files are known too
    #[arg(long = "service-cidr", value_name = "CIDR", value_parser = Cidr::parse_strict)]
    pub service_cidrs: Vec<Cidr>,
    /// The budgets.
    #[command(flatten)]
    pub budget: BudgetArg,
    /// Sentences, a JSON object a line, or SARIF 2.1.0
    #[arg(short, long, value_enum, default_value_t = LintOutput::Text)]
    pub output: LintOutput,
}

/// The least severity that fails.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FailOn {
    /// Errors.
    Error,
    /// Errors and warnings.
    Warning,
    /// Every finding.
    Hint,
    /// None.
    Never,
}

impl FailOn {
    /// Whether a finding of this severity fails.
    pub fn includes(self, severity: Severity) -> bool {
        match self {
            FailOn::Error => severity <= Severity::Error,
            FailOn::Warning => severity <= Severity::Warning,
            FailOn::Hint => true,
            FailOn::Never => false,
        }
    }
}

/// Forms of output.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LintOutput {
    /// For a person.
    Text,
    /// For a program.
    Json,
    /// For code scanning.
    Sarif,
}
