//! Why a kubeconfig is refused. The messages name fields and never quote the input.

use std::fmt;

/// A field that holds PEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// `certificate-authority` or `certificate-authority-data`.
    Authority,
    /// `client-certificate` or `client-certificate-data`.
    ClientCertificate,
    /// `client-key` or `client-key-data`.
    ClientKey,
}

impl Field {
    /// The field's name if it holds a path.
    #[must_use]
    pub fn path_key(self) -> &'static str {
        match self {
            Self::Authority => "certificate-authority",
            Self::ClientCertificate => "client-certificate",
            Self::ClientKey => "client-key",
        }
    }

    pub(super) fn data_key(self) -> &'static str {
        match self {
            Self::Authority => "certificate-authority-data",
            Self::ClientCertificate => "client-certificate-data",
            Self::ClientKey => "client-key-data",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path_key())
    }
}

/// Why a kubeconfig is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsafe {
    /// It is larger than 64 KiB.
    #[error("it is larger than 64 KiB")]
    TooLarge,
    /// It is not UTF-8, or holds control characters.
    #[error("it is not plain text")]
    NotText,
    /// It is empty.
    #[error("it is empty")]
    Empty,
    /// It holds YAML anchors or aliases.
    #[error("it holds YAML anchors or aliases, which no kubeconfig needs")]
    Anchors,
    /// It holds far more brackets than a kubeconfig.
    #[error("it holds far more brackets than any kubeconfig")]
    Nested,
    /// It is not one well-formed YAML document.
    #[error("it is not one well-formed YAML document")]
    NotYaml,
    /// It is YAML, but not of `kind: Config`, `apiVersion: v1`.
    #[error("it is not a kubeconfig (kind Config, apiVersion v1)")]
    NotKubeconfig,
    /// A field has the wrong type.
    #[error("`{field}` is not of the type that a kubeconfig has there")]
    WrongType {
        /// The field.
        field: &'static str,
    },
    /// The context, cluster or user that is named is missing, or exists more than once.
    #[error(
        "its current context does not name exactly one context, one cluster and one user that are there"
    )]
    Context,
    /// A field that is refused is set.
    #[error(
        "`{field}` is set, which NICO refuses: an admin kubeconfig holds a server, its authority and a client certificate or token, and nothing else"
    )]
    Refused {
        /// The field.
        field: &'static str,
    },
    /// The server is not https, or has more than host and port.
    #[error("`server` is not https:// with a plain host and port")]
    Server,
    /// `tls-server-name` is not a plain host.
    #[error("`tls-server-name` is not a plain host name")]
    TlsServerName,
    /// There is no certificate authority.
    #[error("it names no certificate authority")]
    NoAuthority,
    /// There is neither a client certificate with its key nor a token.
    #[error("it holds neither a client certificate with its key nor a token")]
    NoCredential,
    /// The token has characters that are not allowed in a bearer token.
    #[error("`token` is not a bearer token")]
    Token,
    /// A path is not absolute and clean.
    #[error("`{field}` is not a clean absolute path")]
    Path {
        /// The field.
        field: Field,
    },
    /// A file that the kubeconfig names does not exist or could not be read.
    #[error("the file that `{field}` names could not be read")]
    FileMissing {
        /// The field.
        field: Field,
    },
    /// Something is not PEM, or PEM of another kind.
    #[error("`{field}` is not PEM of certificates or private keys")]
    NotPem {
        /// The field.
        field: Field,
    },
    /// Something is not a certificate.
    #[error("`{field}` is not a certificate")]
    NotCertificate {
        /// The field.
        field: Field,
    },
    /// The client key is not one unencrypted private key.
    #[error("`client-key` is not one unencrypted private key")]
    NotKey,
    /// The client key does not match the client certificate.
    #[error("`client-key` does not belong to `client-certificate`")]
    KeyMismatch,
    /// The client key is damaged, or of a form that is not supported.
    #[error("`client-key` cannot be read, or is of a form that NICO cannot use")]
    KeyUnusable,
    /// The kind of the client certificate's key is not supported.
    #[error(
        "the key of `client-certificate` is of a kind that NICO cannot use: {kind}; it uses ECDSA P-256 and P-384, Ed25519, and RSA of 2048 to 4096 bits"
    )]
    KeyKind {
        /// The kind.
        kind: String,
    },
    /// The client's own certificate is not of version 3 of X.509.
    #[error("`client-certificate` is not of version 3 of X.509, which TLS needs")]
    CertificateVersion,
    /// A client certificate that TLS cannot use for another reason.
    #[error("`client-certificate` cannot be used for TLS")]
    CertificateUnusable,
    /// The Machine object's address is not a plain host. It does not come from the machine.
    #[error(
        "the Machine's address is not a plain host name or IP address, and the kubeconfig needs one"
    )]
    MachineAddress,
}
