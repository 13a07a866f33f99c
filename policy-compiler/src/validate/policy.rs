//! NetworkPolicy (ValidateNetworkPolicySpec, and SetDefaults_NetworkPolicy).

use super::field::{Errors, Path};
use super::object::{name, namespace_or_default, validate_labels};
use super::{FieldError, Options, text};
use crate::api;
use crate::model::{
    Cidr, IpBlock, LabelSelector, NamespaceScope, NamespacedName, NetworkPolicy, Peer, Peers,
    PolicyPort, PortMatch, PortRange, Ports, Protocol, Requirement, Rule,
};

/// The policy, valid and with its defaults applied.
///
/// # Errors
/// Every field that the API server would refuse.
pub fn network_policy(
    policy: &api::NetworkPolicy,
    options: Options,
) -> Result<NetworkPolicy, Vec<FieldError>> {
    let mut errors = Errors::default();
    let metadata = Path::Root("metadata");
    let name = name(&mut errors, &policy.metadata, text::dns_subdomain);
    let namespace = namespace_or_default(&mut errors, &policy.metadata);
    validate_labels(
        &mut errors,
        &metadata.field("labels"),
        policy.metadata.labels.as_ref(),
    );

    let empty = api::NetworkPolicySpec::default();
    let spec = policy.spec.as_ref().unwrap_or(&empty);
    let path = Path::Root("spec");
    let mut reader = Reader {
        errors: &mut errors,
        options,
        namespace: &namespace,
    };
    let selector = reader.selector(&path.field("podSelector"), spec.pod_selector.as_ref());
    let ingress = reader.rules(&path.field("ingress"), "from", &as_pairs(&spec.ingress));
    let egress = reader.rules(&path.field("egress"), "to", &as_pairs(&spec.egress));
    let (isolates_ingress, isolates_egress) = reader.policy_types(&path, spec);

    let policy = NetworkPolicy {
        id: NamespacedName::new(namespace, name),
        selector,
        ingress: isolates_ingress.then_some(ingress),
        egress: isolates_egress.then_some(egress),
    };
    errors.finish(Some(policy))
}

/// Peers and ports of a rule, whichever its direction.
type RulePair<'a> = (&'a [api::NetworkPolicyPeer], &'a [api::NetworkPolicyPort]);

trait AsPair {
    fn as_pair(&self) -> RulePair<'_>;
}

impl AsPair for api::NetworkPolicyIngressRule {
    fn as_pair(&self) -> RulePair<'_> {
        (
            self.from.as_deref().unwrap_or_default(),
            self.ports.as_deref().unwrap_or_default(),
        )
    }
}

impl AsPair for api::NetworkPolicyEgressRule {
    fn as_pair(&self) -> RulePair<'_> {
        (
            self.to.as_deref().unwrap_or_default(),
            self.ports.as_deref().unwrap_or_default(),
        )
    }
}

fn as_pairs<R: AsPair>(rules: &Option<Vec<R>>) -> Vec<RulePair<'_>> {
    rules.iter().flatten().map(AsPair::as_pair).collect()
}

/// Reads the parts of a spec; what is wrong goes into `errors`, and the part is read as if it were absent.
struct Reader<'a> {
    errors: &'a mut Errors,
    options: Options,
    namespace: &'a str,
}

impl Reader<'_> {
    /// Whether the policy isolates for (ingress, egress).
    fn policy_types(
        &mut self,
        spec_path: &Path<'_>,
        spec: &api::NetworkPolicySpec,
    ) -> (bool, bool) {
        let types = spec.policy_types.as_deref().unwrap_or_default();
        let path = spec_path.field("policyTypes");
        if types.len() > 2 {
            self.errors
                .invalid(&path, types, "may not specify more than two policyTypes");
            return (true, true);
        }
        for (index, type_) in types.iter().enumerate() {
            if !["Ingress", "Egress"].contains(&type_.as_str()) {
                self.errors
                    .not_supported(&path.index(index), type_, &["Egress", "Ingress"]);
            }
        }
        if types.is_empty() {
            return (
                true,
                spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
            );
        }
        let has = |wanted: &str| types.iter().any(|type_| type_ == wanted);
        (has("Ingress"), has("Egress"))
    }

    fn rules(&mut self, path: &Path<'_>, peers_field: &str, rules: &[RulePair<'_>]) -> Vec<Rule> {
        rules
            .iter()
            .enumerate()
            .map(|(index, (peers, ports))| {
                let path = path.index(index);
                Rule {
                    peers: self.peers(&path.field(peers_field), peers),
                    ports: self.ports(&path.field("ports"), ports),
                }
            })
            .collect()
    }

    fn ports(&mut self, path: &Path<'_>, ports: &[api::NetworkPolicyPort]) -> Ports {
        if ports.is_empty() {
            return Ports::Any;
        }
        Ports::Of(
            ports
                .iter()
                .enumerate()
                .filter_map(|(index, port)| self.port(&path.index(index), port))
                .collect(),
        )
    }

    fn port(&mut self, path: &Path<'_>, port: &api::NetworkPolicyPort) -> Option<PolicyPort> {
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some("SCTP") => Some(Protocol::Sctp),
            Some(other) => {
                self.errors
                    .not_supported(&path.field("protocol"), other, &["SCTP", "TCP", "UDP"]);
                None
            }
        };
        let end_path = path.field("endPort");
        let port = match (&port.port, port.end_port) {
            (None, None) => Some(PortMatch::All),
            (None, Some(_)) => {
                let detail = "may not be specified when `port` is not specified";
                self.errors.forbidden(&end_path, detail);
                None
            }
            (Some(api::IntOrString::Int(first)), None) => {
                let first = self.number(&path.field("port"), *first);
                first.map(|first| PortMatch::Range(PortRange::single(first)))
            }
            (Some(api::IntOrString::Int(first)), Some(last)) => {
                let first_number = self.number(&path.field("port"), *first);
                if last < *first {
                    self.errors
                        .invalid(&end_path, last, "must be greater than or equal to `port`");
                }
                let last = self.number(&end_path, last);
                first_number
                    .zip(last)
                    .and_then(|(first, last)| PortRange::new(first, last))
                    .map(PortMatch::Range)
            }
            (Some(api::IntOrString::String(name)), last) => {
                if last.is_some() {
                    let detail = "may not be specified when `port` is non-numeric";
                    self.errors.forbidden(&end_path, detail);
                }
                let wrong = text::port_name(name);
                for wrong in &wrong {
                    self.errors.invalid(&path.field("port"), name, *wrong);
                }
                (wrong.is_empty() && last.is_none()).then(|| PortMatch::Named(name.clone()))
            }
        };
        Some(PolicyPort {
            protocol: protocol?,
            port: port?,
        })
    }

    fn number(&mut self, path: &Path<'_>, number: i64) -> Option<u16> {
        let valid = u16::try_from(number).ok().filter(|number| *number > 0);
        if valid.is_none() {
            self.errors
                .invalid(path, number, "must be between 1 and 65535, inclusive");
        }
        valid
    }

    fn peers(&mut self, path: &Path<'_>, peers: &[api::NetworkPolicyPeer]) -> Peers {
        if peers.is_empty() {
            return Peers::Any;
        }
        Peers::Of(
            peers
                .iter()
                .enumerate()
                .filter_map(|(index, peer)| self.peer(&path.index(index), peer))
                .collect(),
        )
    }

    fn peer(&mut self, path: &Path<'_>, peer: &api::NetworkPolicyPeer) -> Option<Peer> {
        let has_selector = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        if let Some(block) = &peer.ip_block {
            if has_selector {
                let detail = "may not specify both ipBlock and another peer";
                self.errors.forbidden(path, detail);
            }
            return self.block(&path.field("ipBlock"), block).map(Peer::Block);
        }
        if !has_selector {
            self.errors.required(path, "must specify a peer");
            return None;
        }
        let pods = self.selector(&path.field("podSelector"), peer.pod_selector.as_ref());
        let namespaces = match &peer.namespace_selector {
            None => NamespaceScope::Own(self.namespace.to_owned()),
            Some(selector) => NamespaceScope::Matching(
                self.selector(&path.field("namespaceSelector"), Some(selector)),
            ),
        };
        Some(Peer::Pods { namespaces, pods })
    }

    fn block(&mut self, path: &Path<'_>, block: &api::IpBlock) -> Option<IpBlock> {
        let cidr_path = path.field("cidr");
        let cidr = match block.cidr.as_deref() {
            None | Some("") => {
                self.errors.required(&cidr_path, "");
                return None;
            }
            Some(cidr) => self.cidr(&cidr_path, cidr)?,
        };
        let except_path = path.field("except");
        let excepts = block.except.as_deref().unwrap_or_default();
        let mut valid = Vec::with_capacity(excepts.len());
        for (index, text) in excepts.iter().enumerate() {
            let path = except_path.index(index);
            if let Some(except) = self.cidr(&path, text) {
                if cidr.strictly_contains(&except) {
                    valid.push(except);
                } else {
                    self.errors
                        .invalid(&path, text, "must be a strict subset of `cidr`");
                }
            }
        }
        IpBlock::new(cidr, valid).ok()
    }

    fn cidr(&mut self, path: &Path<'_>, text: &str) -> Option<Cidr> {
        let read = if self.options.lenient_cidr {
            Cidr::parse_lenient(text)
        } else {
            Cidr::parse_strict(text)
        };
        read.inspect_err(|error| self.errors.invalid(path, text, error.to_string()))
            .ok()
    }

    /// The selector; absent selects everything.
    fn selector(
        &mut self,
        path: &Path<'_>,
        selector: Option<&api::LabelSelector>,
    ) -> LabelSelector {
        let mut requirements = Vec::new();
        let labels_path = path.field("matchLabels");
        let pairs = selector.and_then(|selector| selector.match_labels.as_ref());
        validate_labels(self.errors, &labels_path, pairs);
        for (key, value) in pairs.into_iter().flatten() {
            requirements.push(Requirement::In(key.clone(), [value.clone()].into()));
        }
        let expressions_path = path.field("matchExpressions");
        let expressions = selector.and_then(|selector| selector.match_expressions.as_deref());
        for (index, expression) in expressions.unwrap_or_default().iter().enumerate() {
            requirements.extend(self.requirement(&expressions_path.index(index), expression));
        }
        LabelSelector::new(requirements)
    }

    fn requirement(
        &mut self,
        path: &Path<'_>,
        expression: &api::LabelSelectorRequirement,
    ) -> Option<Requirement> {
        let values_path = path.field("values");
        let values = expression.values.as_deref().unwrap_or_default();
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => self.errors.required(
                &values_path,
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => self.errors.forbidden(
                &values_path,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => self.errors.invalid(
                &path.field("operator"),
                other,
                "not a valid selector operator",
            ),
        }
        for wrong in text::qualified_name(&expression.key) {
            self.errors
                .invalid(&path.field("key"), &expression.key, wrong);
        }
        for (index, value) in values.iter().enumerate() {
            for wrong in text::label_value(value) {
                self.errors.invalid(&values_path.index(index), value, wrong);
            }
        }
        let key = expression.key.clone();
        let values = values.iter().cloned().collect();
        match expression.operator.as_str() {
            "In" => Some(Requirement::In(key, values)),
            "NotIn" => Some(Requirement::NotIn(key, values)),
            "Exists" => Some(Requirement::Exists(key)),
            "DoesNotExist" => Some(Requirement::DoesNotExist(key)),
            _ => None,
        }
    }
}
