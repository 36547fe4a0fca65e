//! Authorities in PEM.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::rotation::Authority;

/// The authorities of one entry of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The name of the entry in its object.
    pub name: String,
    /// The authorities, in the order of the entry.
    pub authorities: Vec<Authority>,
}

impl Bundle {
    /// Reads a bundle. Text that is not a certificate is skipped, as API servers do (Go's `AppendCertsFromPEM`).
    pub fn from_pem(name: &str, pem: &[u8]) -> Self {
        let authorities = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect();
        Self { name: name.to_owned(), authorities }
    }

    /// Returns the authorities in PEM.
    pub fn to_pem(&self) -> String {
        let mut pem = String::new();
        for authority in &self.authorities {
            pem.push_str("-----BEGIN CERTIFICATE-----\n");
            for line in STANDARD.encode(authority).as_bytes().chunks(64) {
                pem.extend(line.iter().copied().map(char::from));
                pem.push('\n');
            }
            pem.push_str("-----END CERTIFICATE-----\n");
        }
        pem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(content: u8) -> Authority {
        vec![content; 100].into()
    }

    #[test]
    fn skips_text_that_is_not_a_certificate() {
        let read = |pem: &str| Bundle::from_pem("ours", pem.as_bytes()).authorities;
        for junk in ["", "\n", "${CA_BUNDLE}", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"]
        {
            assert_eq!(read(junk), [], "{junk:?}");
        }
        let one = Bundle { name: "ours".to_owned(), authorities: vec![authority(1)] };
        let mixed = format!("# one of ours\n{}and the end", one.to_pem());
        assert_eq!(read(&mixed), [authority(1)]);
    }

    #[test]
    fn reads_what_it_writes() {
        let bundle = Bundle { name: "ours".to_owned(), authorities: vec![authority(1), authority(2)] };
        assert_eq!(Bundle::from_pem("ours", bundle.to_pem().as_bytes()), bundle);
    }
}
