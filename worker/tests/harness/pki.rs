//! Certificates of a cluster that exists for one test.

use orchestra_proto::client::{Credentials, HEAD_NAME};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

pub struct Pki {
    pub ca_pem: String,
    pub head_pem: String,
    pub head_key_pem: String,
    pub worker: Credentials,
}

impl Pki {
    pub fn new() -> Self {
        let mut ca = CertificateParams::new(vec![]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, "test CA");
        let ca_key = KeyPair::generate().unwrap();
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(ca, ca_key);
        let signed = |names: Vec<String>| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(names).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            (certificate.pem(), key.serialize_pem())
        };
        let (head_pem, head_key_pem) = signed(vec![HEAD_NAME.to_owned()]);
        let (cert_pem, key_pem) = signed(vec!["worker".to_owned()]);
        Self {
            worker: Credentials {
                ca_pem: ca_pem.clone(),
                cert_pem,
                key_pem,
            },
            ca_pem,
            head_pem,
            head_key_pem,
        }
    }
}
