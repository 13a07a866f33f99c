//! What the kernel must have, asked before anything is loaded.
//!
//! Each feature is tried in a table `picket-probe` by a batch without an end. The kernel does all that it would do for a
//! batch, says what it thinks of each part, and takes all of it back (`nft --check` asks so too). Nothing is in force at
//! any time, nobody is told of it, and the generation stays: the table is dormant, so that its base chains are never
//! hooked in, and rules that are not committed judge no packet. What it does do is what loading the real rules does: the
//! kernel may load its modules, and while it looks at `ct` it tracks connections.

mod ask;
mod batch;
mod feature;
mod question;

use std::fmt;
use std::io;

use nix::errno::Errno;

use crate::netlink::attribute::Malformed;

pub use feature::{Feature, Need};

/// What was found of every feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features(Vec<Finding>);

/// What was found of one feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub feature: Feature,
    /// Whether the kernel has it.
    pub availability: Availability,
}

/// Whether the kernel has a feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It has.
    Available,
    /// It has not, by its own words.
    Missing(Answer),
    /// It was not asked, as it has not what this stands on.
    Without(Feature),
    /// It failed for a reason that says nothing about the feature, for example for want of memory.
    Unclear(Answer),
}

/// The kernel's words when something fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The number of the error.
    pub errno: i32,
    /// What the kernel says about it, if it does.
    pub text: Option<String>,
}

/// Why nothing is known of the kernel's features.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The process may not ask.
    #[error("the kernel may not be asked for {0}: the process needs CAP_NET_ADMIN")]
    NotPermitted(Feature),
    /// The kernel could not be asked, or its answer not be read.
    #[error("the kernel could not be asked for {feature}")]
    Ask {
        /// For what.
        feature: Feature,
        /// Why not.
        source: io::Error,
    },
    /// The kernel's answer was lost.
    #[error("the kernel's answer for {0} was lost")]
    Lost(Feature),
    /// The kernel's answer is not what its header files say.
    #[error("the kernel's answer for {feature} can not be read")]
    Malformed {
        /// For what.
        feature: Feature,
        /// What it is.
        source: Malformed,
    },
}

impl Features {
    /// Asks the kernel for every feature, in the network namespace of the calling thread. Nothing is left behind.
    ///
    /// # Errors
    /// [`ProbeError`]: nothing is known then. That a feature is missing is no error.
    pub fn probe() -> Result<Self, ProbeError> {
        let mut kernel = ask::Kernel::default();
        Self::probe_with(|feature| kernel.ask(feature))
    }

    /// Asks `ask` for every feature whose ground is there.
    fn probe_with(
        mut ask: impl FnMut(Feature) -> Result<Result<(), Answer>, ProbeError>,
    ) -> Result<Self, ProbeError> {
        let mut found = Self(Vec::new());
        for feature in Feature::ALL {
            let without = feature.stands_on().iter().find(|on| !found.has(**on));
            let availability = match without {
                Some(on) => Availability::Without(*on),
                None => availability(feature, ask(feature)?)?,
            };
            found.0.push(Finding {
                feature,
                availability,
            });
        }
        Ok(found)
    }

    /// What was found of each feature, in the order in which they stand on each other.
    pub fn findings(&self) -> &[Finding] {
        &self.0
    }

    /// Whether the kernel has a feature.
    pub fn has(&self, feature: Feature) -> bool {
        let found = |finding: &&Finding| finding.feature == feature;
        let found = self.0.iter().find(found);
        found.is_some_and(|finding| finding.availability == Availability::Available)
    }

    /// Those that the kernel has not, or of which it is not known.
    pub fn missing(&self) -> impl Iterator<Item = &Finding> {
        let has = |finding: &&Finding| finding.availability == Availability::Available;
        self.0.iter().filter(move |finding| !has(finding))
    }

    /// Those of them without which no policy can be enforced.
    pub fn missing_required(&self) -> impl Iterator<Item = &Finding> {
        self.missing()
            .filter(|finding| finding.feature.need() == Need::Required)
    }
}

fn availability(feature: Feature, answer: Result<(), Answer>) -> Result<Availability, ProbeError> {
    let Err(answer) = answer else {
        return Ok(Availability::Available);
    };
    match Errno::from_raw(answer.errno) {
        Errno::EPERM | Errno::EACCES => Err(ProbeError::NotPermitted(feature)),
        // No such family, expression or chain type; not built in, or unknown flags or attributes; no such subsystem; no
        // connection tracking for a family; no such protocol of netlink.
        Errno::ENOENT
        | Errno::EOPNOTSUPP
        | Errno::EINVAL
        | Errno::EPROTO
        | Errno::EPROTONOSUPPORT
        | Errno::EAFNOSUPPORT => Ok(Availability::Missing(answer)),
        _ => Ok(Availability::Unclear(answer)),
    }
}

/// One line for each feature that is missing, the required first, or that there is none.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut missing: Vec<_> = self.missing().collect();
        if missing.is_empty() {
            return f.write_str("the kernel has every feature that picket uses");
        }
        missing.sort_by_key(|finding| finding.feature.need());
        for (index, finding) in missing.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            finding.fmt(f)?;
        }
        Ok(())
    }
}

/// `missing: fib, the routing table in rules (required): CONFIG_NFT_FIB_INET, module nft_fib_inet (ENOENT: ..)`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let feature = self.feature;
        let state = match self.availability {
            Availability::Available => "available",
            Availability::Unclear(_) => "unclear",
            Availability::Missing(_) | Availability::Without(_) => "missing",
        };
        write!(
            f,
            "{state}: {feature} ({}): {}",
            feature.need(),
            feature.option()
        )?;
        if let Some(module) = feature.module() {
            write!(f, ", module {module}")?;
        }
        if let Some(version) = feature.since() {
            write!(f, ", Linux {version}")?;
        }
        match &self.availability {
            Availability::Available => Ok(()),
            Availability::Without(on) => write!(f, " (not asked without {on})"),
            Availability::Missing(answer) | Availability::Unclear(answer) => {
                write!(f, " ({answer})")
            }
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Errno::from_raw(self.errno).fmt(f)?;
        self.text
            .as_ref()
            .map_or(Ok(()), |text| write!(f, ", {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(errno: Errno) -> Answer {
        Answer {
            errno: errno as i32,
            text: None,
        }
    }

    /// What is found on a kernel that answers so for these features, and has all others.
    fn probed(answers: &[(Feature, Errno)]) -> Result<Features, ProbeError> {
        Features::probe_with(|feature| {
            let found = answers.iter().find(|(of, _)| *of == feature);
            Ok(found.map_or(Ok(()), |(_, errno)| Err(answer(*errno))))
        })
    }

    #[test]
    fn a_kernel_with_everything_lacks_nothing() {
        let features = probed(&[]).expect("asked");
        assert_eq!(features.findings().len(), Feature::ALL.len());
        assert_eq!(features.missing().count(), 0);
        assert_eq!(
            features.to_string(),
            "the kernel has every feature that picket uses"
        );
    }

    #[test]
    fn each_missing_feature_is_named_with_its_option() {
        let errors = [
            Errno::ENOENT,
            Errno::EOPNOTSUPP,
            Errno::EINVAL,
            Errno::EPROTO,
            Errno::EPROTONOSUPPORT,
        ];
        for (feature, errno) in Feature::ALL.iter().flat_map(|f| errors.map(|e| (*f, e))) {
            let features = probed(&[(feature, errno)]).expect("asked");
            assert!(!features.has(feature));
            let first = features.missing().next().expect("one");
            assert_eq!(first.feature, feature);
            assert_eq!(first.availability, Availability::Missing(answer(errno)));
            let text = features.to_string();
            assert!(text.contains(feature.option()), "{text}");
            let required = features.missing_required().any(|f| f.feature == feature);
            assert_eq!(required, feature.need() == Need::Required);
            // All others were found, but for those that stand on it.
            for other in features.missing().skip(1) {
                assert!(
                    matches!(other.availability, Availability::Without(_)),
                    "{other}"
                );
            }
        }
    }

    #[test]
    fn what_stands_on_a_missing_feature_is_not_asked() {
        let mut asked = Vec::new();
        let features = Features::probe_with(|feature| {
            asked.push(feature);
            Ok(match feature {
                Feature::NfTables => Err(answer(Errno::EINVAL)),
                _ => Ok(()),
            })
        });
        let features = features.expect("asked");
        let (without, others): (Vec<_>, Vec<_>) = features
            .missing()
            .partition(|f| f.availability == Availability::Without(Feature::NfTables));
        assert!(without.len() > 10 && others.len() < 8, "{features}");
        assert!(
            without
                .iter()
                .all(|finding| !asked.contains(&finding.feature))
        );
        assert!(features.has(Feature::ConntrackNetlink) && features.has(Feature::BridgeNetfilter));
    }

    #[test]
    fn what_a_feature_stands_on_is_asked_before() {
        for (index, feature) in Feature::ALL.iter().enumerate() {
            let before = &Feature::ALL[..index];
            assert!(
                feature.stands_on().iter().all(|on| before.contains(on)),
                "{feature}"
            );
        }
    }

    #[test]
    fn a_lack_of_permission_is_no_lack_of_a_feature() {
        for errno in [Errno::EPERM, Errno::EACCES] {
            let error = probed(&[(Feature::NfTables, errno)]).expect_err("not permitted");
            assert_eq!(
                error.to_string(),
                "the kernel may not be asked for nf_tables: the process needs CAP_NET_ADMIN"
            );
        }
    }

    #[test]
    fn a_failure_that_says_nothing_of_the_feature_is_told_apart() {
        let features = probed(&[(Feature::Fib, Errno::ENOMEM)]).expect("asked");
        let missing: Vec<_> = features.missing_required().collect();
        assert_eq!(missing.len(), 1);
        assert_eq!(
            missing[0].availability,
            Availability::Unclear(answer(Errno::ENOMEM))
        );
    }

    #[test]
    fn a_person_can_read_what_is_missing() {
        let features = probed(&[
            (Feature::BridgeNetfilter, Errno::ENOENT),
            (Feature::Fib, Errno::ENOENT),
            (Feature::TablePersist, Errno::EOPNOTSUPP),
        ]);
        let expected = "\
            missing: fib, what the routing tables say, in rules (required): CONFIG_NFT_FIB_INET, module nft_fib_inet \
            (ENOENT: No such file or directory)\n\
            missing: bridges that hand packets to the inet hooks (needed for pods on a bridge): CONFIG_BRIDGE_NETFILTER, \
            module br_netfilter (ENOENT: No such file or directory)\n\
            missing: tables that outlive the program that owns them (would help: nobody else can change our tables, also \
            while the agent restarts): CONFIG_NF_TABLES, Linux 6.9 (EOPNOTSUPP: Operation not supported on transport \
            endpoint)";
        assert_eq!(features.expect("asked").to_string(), expected);
    }
}
