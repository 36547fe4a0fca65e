//! A CA of this process and a certificate of the listener.

use std::net::IpAddr;

use pod_identity_runtime::tls::{ServerTls, TlsVersion};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls_pki_types::PrivateKeyDer;

/// Creates a certificate for these names and the address. Returns the TLS of the listener and the CA certificate in PEM.
/// The CA's key is dropped: it signs nothing else.
pub(super) fn create(
    address: IpAddr,
    names: &[String],
) -> Result<(ServerTls, String), Box<dyn std::error::Error>> {
    let mut params = CertificateParams::new(vec![])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(DnType::CommonName, "pod-identity-local");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let mut all = vec!["localhost".to_owned()];
    if !address.is_unspecified() {
        all.push(address.to_string());
    }
    all.extend(names.iter().cloned());
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(all)?.signed_by(&key, &ca)?;
    let tls = ServerTls::in_memory(TlsVersion::V1_2);
    tls.replace(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))?;
    Ok((tls, ca.pem()))
}
