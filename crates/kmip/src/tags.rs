//! Tags of the items used here (KMIP 1.4 §9.1.3.1).

use crate::ttlv::Tag;

macro_rules! tags {
    ($($name:ident = $code:literal $text:literal;)*) => {
        $(pub const $name: Tag = Tag($code);)*

        /// The specification's name of a tag.
        pub const fn name(tag: Tag) -> Option<&'static str> {
            match tag.0 {
                $($code => Some($text),)*
                _ => None,
            }
        }
    };
}

tags! {
    ASYNCHRONOUS_CORRELATION_VALUE = 0x420006 "Asynchronous Correlation Value";
    ASYNCHRONOUS_INDICATOR = 0x420007 "Asynchronous Indicator";
    ATTRIBUTE = 0x420008 "Attribute";
    ATTRIBUTE_INDEX = 0x420009 "Attribute Index";
    ATTRIBUTE_NAME = 0x42000A "Attribute Name";
    ATTRIBUTE_VALUE = 0x42000B "Attribute Value";
    AUTHENTICATION = 0x42000C "Authentication";
    BATCH_COUNT = 0x42000D "Batch Count";
    BATCH_ERROR_CONTINUATION_OPTION = 0x42000E "Batch Error Continuation Option";
    BATCH_ITEM = 0x42000F "Batch Item";
    BATCH_ORDER_OPTION = 0x420010 "Batch Order Option";
    COMMON_TEMPLATE_ATTRIBUTE = 0x42001F "Common Template-Attribute";
    COMPROMISE_OCCURRENCE_DATE = 0x420021 "Compromise Occurrence Date";
    CREDENTIAL = 0x420023 "Credential";
    CREDENTIAL_TYPE = 0x420024 "Credential Type";
    CREDENTIAL_VALUE = 0x420025 "Credential Value";
    CRITICALITY_INDICATOR = 0x420026 "Criticality Indicator";
    CRYPTOGRAPHIC_ALGORITHM = 0x420028 "Cryptographic Algorithm";
    CRYPTOGRAPHIC_DOMAIN_PARAMETERS = 0x420029 "Cryptographic Domain Parameters";
    CRYPTOGRAPHIC_LENGTH = 0x42002A "Cryptographic Length";
    CRYPTOGRAPHIC_PARAMETERS = 0x42002B "Cryptographic Parameters";
    BLOCK_CIPHER_MODE = 0x420011 "Block Cipher Mode";
    HASHING_ALGORITHM = 0x420038 "Hashing Algorithm";
    KEY_BLOCK = 0x420040 "Key Block";
    KEY_COMPRESSION_TYPE = 0x420041 "Key Compression Type";
    KEY_FORMAT_TYPE = 0x420042 "Key Format Type";
    KEY_MATERIAL = 0x420043 "Key Material";
    KEY_VALUE = 0x420045 "Key Value";
    KEY_WRAPPING_DATA = 0x420046 "Key Wrapping Data";
    KEY_WRAPPING_SPECIFICATION = 0x420047 "Key Wrapping Specification";
    MAXIMUM_ITEMS = 0x42004F "Maximum Items";
    MAXIMUM_RESPONSE_SIZE = 0x420050 "Maximum Response Size";
    MESSAGE_EXTENSION = 0x420051 "Message Extension";
    MODULUS = 0x420052 "Modulus";
    NAME = 0x420053 "Name";
    NAME_TYPE = 0x420054 "Name Type";
    NAME_VALUE = 0x420055 "Name Value";
    OBJECT_TYPE = 0x420057 "Object Type";
    OPERATION = 0x42005C "Operation";
    PADDING_METHOD = 0x42005F "Padding Method";
    PRIVATE_KEY_TEMPLATE_ATTRIBUTE = 0x420065 "Private Key Template-Attribute";
    PRIVATE_KEY_UNIQUE_IDENTIFIER = 0x420066 "Private Key Unique Identifier";
    PROTOCOL_VERSION = 0x420069 "Protocol Version";
    PROTOCOL_VERSION_MAJOR = 0x42006A "Protocol Version Major";
    PROTOCOL_VERSION_MINOR = 0x42006B "Protocol Version Minor";
    PUBLIC_EXPONENT = 0x42006C "Public Exponent";
    PUBLIC_KEY = 0x42006D "Public Key";
    PUBLIC_KEY_TEMPLATE_ATTRIBUTE = 0x42006E "Public Key Template-Attribute";
    PUBLIC_KEY_UNIQUE_IDENTIFIER = 0x42006F "Public Key Unique Identifier";
    Q_STRING = 0x420072 "Q String";
    QLENGTH = 0x420073 "QLength";
    QUERY_FUNCTION = 0x420074 "Query Function";
    RECOMMENDED_CURVE = 0x420075 "Recommended Curve";
    REQUEST_HEADER = 0x420077 "Request Header";
    REQUEST_MESSAGE = 0x420078 "Request Message";
    REQUEST_PAYLOAD = 0x420079 "Request Payload";
    RESPONSE_HEADER = 0x42007A "Response Header";
    RESPONSE_MESSAGE = 0x42007B "Response Message";
    RESPONSE_PAYLOAD = 0x42007C "Response Payload";
    RESULT_MESSAGE = 0x42007D "Result Message";
    RESULT_REASON = 0x42007E "Result Reason";
    RESULT_STATUS = 0x42007F "Result Status";
    REVOCATION_MESSAGE = 0x420080 "Revocation Message";
    REVOCATION_REASON = 0x420081 "Revocation Reason";
    REVOCATION_REASON_CODE = 0x420082 "Revocation Reason Code";
    KEY_ROLE_TYPE = 0x420083 "Key Role Type";
    SERVER_INFORMATION = 0x420088 "Server Information";
    STATE = 0x42008D "State";
    STORAGE_STATUS_MASK = 0x42008E "Storage Status Mask";
    TEMPLATE_ATTRIBUTE = 0x420091 "Template-Attribute";
    TIME_STAMP = 0x420092 "Time Stamp";
    UNIQUE_BATCH_ITEM_ID = 0x420093 "Unique Batch Item ID";
    UNIQUE_IDENTIFIER = 0x420094 "Unique Identifier";
    USERNAME = 0x420099 "Username";
    VALIDITY_INDICATOR = 0x42009B "Validity Indicator";
    VENDOR_EXTENSION = 0x42009C "Vendor Extension";
    VENDOR_IDENTIFICATION = 0x42009D "Vendor Identification";
    PASSWORD = 0x4200A1 "Password";
    OBJECT_GROUP_MEMBER = 0x4200AC "Object Group Member";
    DIGITAL_SIGNATURE_ALGORITHM = 0x4200AE "Digital Signature Algorithm";
    ATTESTATION_CAPABLE_INDICATOR = 0x4200D3 "Attestation Capable Indicator";
    ATTESTATION_TYPE = 0x4200C7 "Attestation Type";
    DATA = 0x4200C2 "Data";
    SIGNATURE_DATA = 0x4200C3 "Signature Data";
    RANDOM_IV = 0x4200C5 "Random IV";
    OFFSET_ITEMS = 0x4200D4 "Offset Items";
    LOCATED_ITEMS = 0x4200D5 "Located Items";
    CORRELATION_VALUE = 0x4200D6 "Correlation Value";
    INIT_INDICATOR = 0x4200D7 "Init Indicator";
    FINAL_INDICATOR = 0x4200D8 "Final Indicator";
    CLIENT_CORRELATION_VALUE = 0x420105 "Client Correlation Value";
    SERVER_CORRELATION_VALUE = 0x420106 "Server Correlation Value";
    DIGESTED_DATA = 0x420107 "Digested Data";
    // Range of extensions (KMIP 1.4 §9.1.3.1): names of the algorithms a token can sign with,
    // in our Server Information.
    X_SIGNING_ALGORITHM = 0x540001 "Signing Algorithm (extension)";
}
