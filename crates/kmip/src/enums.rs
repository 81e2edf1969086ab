//! Enumerations (KMIP 1.4 §9.1.3.2). Codes not known here are kept as they came.

use std::fmt;

/// A value of an enumeration of the specification.
pub trait Enumeration: Copy {
    fn code(self) -> u32;
    fn from_code(code: u32) -> Self;
}

macro_rules! enumerations {
    ($($(#[$meta:meta])* $name:ident { $($variant:ident = $code:literal $text:literal),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name {
            $($variant,)*
            /// A code not known here.
            Other(u32),
        }

        impl Enumeration for $name {
            fn code(self) -> u32 {
                match self {
                    $($name::$variant => $code,)*
                    $name::Other(code) => code,
                }
            }

            fn from_code(code: u32) -> Self {
                match code {
                    $($code => $name::$variant,)*
                    other => $name::Other(other),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $($name::$variant => f.write_str($text),)*
                    $name::Other(code) => write!(f, "{} 0x{code:08X}", stringify!($name)),
                }
            }
        }
    )*};
}

enumerations! {
    /// §9.1.3.2.27.
    Operation {
        Create = 0x01 "Create",
        CreateKeyPair = 0x02 "Create Key Pair",
        Register = 0x03 "Register",
        Locate = 0x08 "Locate",
        Check = 0x09 "Check",
        Get = 0x0A "Get",
        GetAttributes = 0x0B "Get Attributes",
        GetAttributeList = 0x0C "Get Attribute List",
        AddAttribute = 0x0D "Add Attribute",
        ModifyAttribute = 0x0E "Modify Attribute",
        DeleteAttribute = 0x0F "Delete Attribute",
        Activate = 0x12 "Activate",
        Revoke = 0x13 "Revoke",
        Destroy = 0x14 "Destroy",
        Query = 0x18 "Query",
        Cancel = 0x19 "Cancel",
        Poll = 0x1A "Poll",
        DiscoverVersions = 0x1E "Discover Versions",
        Encrypt = 0x1F "Encrypt",
        Decrypt = 0x20 "Decrypt",
        Sign = 0x21 "Sign",
        SignatureVerify = 0x22 "Signature Verify",
    }
    /// §9.1.3.2.28.
    ResultStatus {
        Success = 0 "Success",
        OperationFailed = 1 "Operation Failed",
        OperationPending = 2 "Operation Pending",
        OperationUndone = 3 "Operation Undone",
    }
    /// §9.1.3.2.29, and from KMIP 2.0 those that servers of ours have no use for but peers send.
    ResultReason {
        ItemNotFound = 0x01 "Item Not Found",
        ResponseTooLarge = 0x02 "Response Too Large",
        AuthenticationNotSuccessful = 0x03 "Authentication Not Successful",
        InvalidMessage = 0x04 "Invalid Message",
        OperationNotSupported = 0x05 "Operation Not Supported",
        MissingData = 0x06 "Missing Data",
        InvalidField = 0x07 "Invalid Field",
        FeatureNotSupported = 0x08 "Feature Not Supported",
        OperationCanceledByRequester = 0x09 "Operation Canceled By Requester",
        CryptographicFailure = 0x0A "Cryptographic Failure",
        IllegalOperation = 0x0B "Illegal Operation",
        PermissionDenied = 0x0C "Permission Denied",
        ObjectArchived = 0x0D "Object Archived",
        IndexOutOfBounds = 0x0E "Index Out of Bounds",
        ApplicationNamespaceNotSupported = 0x0F "Application Namespace Not Supported",
        KeyFormatTypeNotSupported = 0x10 "Key Format Type Not Supported",
        KeyCompressionTypeNotSupported = 0x11 "Key Compression Type Not Supported",
        EncodingOptionError = 0x12 "Encoding Option Error",
        KeyValueNotPresent = 0x13 "Key Value Not Present",
        AttestationRequired = 0x14 "Attestation Required",
        AttestationFailed = 0x15 "Attestation Failed",
        Sensitive = 0x16 "Sensitive",
        NotExtractable = 0x17 "Not Extractable",
        ObjectAlreadyExists = 0x18 "Object Already Exists",
        BadPassword = 0x25 "Bad Password",
        InternalServerError = 0x2A "Internal Server Error",
        ObjectDestroyed = 0x36 "Object Destroyed",
        ObjectNotFound = 0x37 "Object Not Found",
        ServerLimitExceeded = 0x3A "Server Limit Exceeded",
        UnsupportedProtocolVersion = 0x3F "Unsupported Protocol Version",
        WrongKeyLifecycleState = 0x43 "Wrong Key Lifecycle State",
        GeneralFailure = 0x100 "General Failure",
    }
    /// §9.1.3.2.12.
    ObjectType {
        Certificate = 1 "Certificate",
        SymmetricKey = 2 "Symmetric Key",
        PublicKey = 3 "Public Key",
        PrivateKey = 4 "Private Key",
        SplitKey = 5 "Split Key",
        Template = 6 "Template",
        SecretData = 7 "Secret Data",
        OpaqueObject = 8 "Opaque Object",
    }
    /// §9.1.3.2.13; EdDSA from KMIP 2.1 §11.12, as 1.x has no code for it.
    CryptographicAlgorithm {
        Rsa = 0x04 "RSA",
        Dsa = 0x05 "DSA",
        Ecdsa = 0x06 "ECDSA",
        Ecdh = 0x0E "ECDH",
        Ec = 0x1A "EC",
        Ed25519 = 0x37 "Ed25519",
        Ed448 = 0x38 "Ed448",
    }
    /// §9.1.3.2.5; the last two from KMIP 2.0 §11.40.
    RecommendedCurve {
        P256 = 0x07 "P-256",
        P384 = 0x0A "P-384",
        P521 = 0x0D "P-521",
        Curve25519 = 0x45 "CURVE25519",
        Curve448 = 0x46 "CURVE448",
    }
    /// §9.1.3.2.16.
    HashingAlgorithm {
        Md5 = 3 "MD5",
        Sha1 = 4 "SHA-1",
        Sha224 = 5 "SHA-224",
        Sha256 = 6 "SHA-256",
        Sha384 = 7 "SHA-384",
        Sha512 = 8 "SHA-512",
    }
    /// §9.1.3.2.15.
    PaddingMethod {
        None = 0x01 "None",
        Oaep = 0x02 "OAEP",
        Pkcs5 = 0x03 "PKCS5",
        Pkcs1v15 = 0x08 "PKCS1 v1.5",
        Pss = 0x0A "PSS",
    }
    /// §9.1.3.2.7.
    DigitalSignatureAlgorithm {
        Sha1WithRsa = 0x03 "SHA-1 with RSA Encryption (PKCS#1 v1.5)",
        Sha256WithRsa = 0x05 "SHA-256 with RSA Encryption (PKCS#1 v1.5)",
        Sha384WithRsa = 0x06 "SHA-384 with RSA Encryption (PKCS#1 v1.5)",
        Sha512WithRsa = 0x07 "SHA-512 with RSA Encryption (PKCS#1 v1.5)",
        RsassaPss = 0x08 "RSASSA-PSS (PKCS#1 v2.1)",
        EcdsaWithSha1 = 0x0C "ECDSA with SHA-1",
        EcdsaWithSha256 = 0x0E "ECDSA with SHA-256",
        EcdsaWithSha384 = 0x0F "ECDSA with SHA-384",
        EcdsaWithSha512 = 0x10 "ECDSA with SHA-512",
    }
    /// §9.1.3.2.3.
    KeyFormatType {
        Raw = 0x01 "Raw",
        Opaque = 0x02 "Opaque",
        Pkcs1 = 0x03 "PKCS#1",
        Pkcs8 = 0x04 "PKCS#8",
        X509 = 0x05 "X.509",
        EcPrivateKey = 0x06 "ECPrivateKey",
        TransparentRsaPrivateKey = 0x0A "Transparent RSA Private Key",
        TransparentRsaPublicKey = 0x0B "Transparent RSA Public Key",
        TransparentEcdsaPrivateKey = 0x0E "Transparent ECDSA Private Key",
        TransparentEcdsaPublicKey = 0x0F "Transparent ECDSA Public Key",
        TransparentEcPrivateKey = 0x14 "Transparent EC Private Key",
        TransparentEcPublicKey = 0x15 "Transparent EC Public Key",
    }
    /// §9.1.3.2.2.
    KeyCompressionType {
        EcUncompressed = 1 "EC Public Key Type Uncompressed",
        EcCompressedPrime = 2 "EC Public Key Type X9.62 Compressed Prime",
        EcCompressedChar2 = 3 "EC Public Key Type X9.62 Compressed Char2",
        EcHybrid = 4 "EC Public Key Type X9.62 Hybrid",
    }
    /// §9.1.3.2.18.
    State {
        PreActive = 1 "Pre-Active",
        Active = 2 "Active",
        Deactivated = 3 "Deactivated",
        Compromised = 4 "Compromised",
        Destroyed = 5 "Destroyed",
        DestroyedCompromised = 6 "Destroyed Compromised",
    }
    /// §9.1.3.2.19.
    RevocationReasonCode {
        Unspecified = 1 "Unspecified",
        KeyCompromise = 2 "Key Compromise",
        CaCompromise = 3 "CA Compromise",
        AffiliationChanged = 4 "Affiliation Changed",
        Superseded = 5 "Superseded",
        CessationOfOperation = 6 "Cessation of Operation",
        PrivilegeWithdrawn = 7 "Privilege Withdrawn",
    }
    /// §9.1.3.2.11.
    NameType {
        Text = 1 "Uninterpreted Text String",
        Uri = 2 "URI",
    }
    /// §9.1.3.2.1.
    CredentialType {
        UsernameAndPassword = 1 "Username and Password",
        Device = 2 "Device",
        Attestation = 3 "Attestation",
    }
    /// §9.1.3.2.24.
    QueryFunction {
        Operations = 1 "Query Operations",
        Objects = 2 "Query Objects",
        ServerInformation = 3 "Query Server Information",
        ApplicationNamespaces = 4 "Query Application Namespaces",
        ExtensionList = 5 "Query Extension List",
        ExtensionMap = 6 "Query Extension Map",
        AttestationTypes = 7 "Query Attestation Types",
        Rngs = 8 "Query RNGs",
        Validations = 9 "Query Validations",
        Profiles = 10 "Query Profiles",
        Capabilities = 11 "Query Capabilities",
        ClientRegistrationMethods = 12 "Query Client Registration Methods",
    }
    /// §9.1.3.2.23.
    ValidityIndicator {
        Valid = 1 "Valid",
        Invalid = 2 "Invalid",
        Unknown = 3 "Unknown",
    }
    /// §9.1.3.2.30.
    BatchErrorContinuation {
        Continue = 1 "Continue",
        Stop = 2 "Stop",
        Undo = 3 "Undo",
    }
}

impl ResultReason {
    /// True if the same request may succeed later without anybody changing anything: servers of
    /// KMIP 1.x have no other word for "the token is away" than General Failure.
    pub fn is_temporary(self) -> bool {
        matches!(
            self,
            ResultReason::GeneralFailure
                | ResultReason::OperationCanceledByRequester
                | ResultReason::InternalServerError
                | ResultReason::ServerLimitExceeded
        )
    }

    /// True if the object named does not exist.
    pub fn is_gone(self) -> bool {
        matches!(
            self,
            ResultReason::ItemNotFound
                | ResultReason::ObjectNotFound
                | ResultReason::ObjectDestroyed
        )
    }
}

/// Bits of the Cryptographic Usage Mask (§9.1.3.3.1).
pub mod usage {
    pub const SIGN: i32 = 0x01;
    pub const VERIFY: i32 = 0x02;
}
