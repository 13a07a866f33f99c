//! Who the API server and its administrator are: made for one test, and worth nothing after it.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// A certificate with its key, both as PEM.
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
}

pub(super) struct Certificates {
    /// Of the authority that signed the others, as PEM.
    pub(super) authority: String,
    pub(super) server: Identity,
    pub(super) administrator: Identity,
    /// Signs the tokens of service accounts.
    pub(super) tokens: KeyPair,
}

impl Certificates {
    /// The server's are for these host names and addresses.
    pub(super) fn new(hosts: &[&str]) -> Self {
        let mut params = named("picket-test-authority", None, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let signed = |mut params: CertificateParams, purpose| {
            params.extended_key_usages = vec![purpose];
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            let key = KeyPair::generate().unwrap();
            Identity {
                certificate: params.signed_by(&key, &authority).unwrap().pem(),
                key: key.serialize_pem(),
            }
        };
        let server = named("kube-apiserver", None, hosts);
        // Members of this group may do everything, by a ClusterRoleBinding that the API server makes itself.
        let administrator = named("admin", Some("system:masters"), &[]);
        Self {
            server: signed(server, ExtendedKeyUsagePurpose::ServerAuth),
            administrator: signed(administrator, ExtendedKeyUsagePurpose::ClientAuth),
            tokens: KeyPair::generate().unwrap(),
            authority: authority.pem(),
        }
    }
}

fn named(name: &str, group: Option<&str>, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
    }
    params
}
